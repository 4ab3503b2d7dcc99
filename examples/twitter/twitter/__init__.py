"""Tweets, and the news feeds of those who follow."""

from twitter.celery import app as celery_app

__all__ = ("celery_app",)
