"""Speed, side by side: celeriac, Celery and a bare loop in one run."""
