"""The same behaviours under Celery and under celeriac."""
