"""The project's app: `celeriac -A twitter worker`."""

import os

from celeriac import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "twitter.settings")

app = Celery("twitter")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
