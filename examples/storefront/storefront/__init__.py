"""A shop that tells its customers things."""

from storefront.celery import app as celery_app

__all__ = ("celery_app",)
