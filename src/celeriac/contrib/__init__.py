"""Adapters between celeriac and libraries that know Celery; each is imported by who uses it."""
