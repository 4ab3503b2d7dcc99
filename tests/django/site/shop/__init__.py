"""A small project: what users of Celery have, with another import."""

from shop.celery import app as celery_app

__all__ = ("celery_app",)
