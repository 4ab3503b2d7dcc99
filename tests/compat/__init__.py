"""Beside real Celery, in one fleet."""
