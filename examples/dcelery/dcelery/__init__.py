"""Queues with workers of their own, workflows, rate limits and priorities."""

from dcelery.celery import app as celery_app

__all__ = ("celery_app",)
