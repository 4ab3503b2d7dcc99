"""A site with a form whose answers go out by mail."""

from feedback.celery import app as celery_app

__all__ = ("celery_app",)
