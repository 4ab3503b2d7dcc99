"""Settings; what differs from machine to machine comes from the environment."""

import os
from pathlib import Path

from celeriac.schedules import crontab

BASE_DIR = Path(__file__).parents[1]

SECRET_KEY = os.environ.get("SECRET_KEY", "only good for trying this out")
DEBUG = os.environ.get("DEBUG", "1") == "1"
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = "storefront.urls"
WSGI_APPLICATION = "storefront.wsgi.application"
INSTALLED_APPS = ["django.contrib.messages", "django.contrib.staticfiles", "shop"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.contrib.messages.context_processors.messages"]},
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": BASE_DIR / "db.sqlite3",
        # The site and the workers write to this file: each waits for the other.
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "Europe/Berlin"

NOTIFY_SECONDS = float(os.environ.get("NOTIFY_SECONDS", "3"))
"""How long it takes to tell all customers something."""
KEEP_NOTICES = os.environ.get("KEEP_NOTICES", "1") == "1"
"""Whether a notice is kept for later where Redis is away; if not, the visitor is told to come back."""

# Database 1: database 0 of this Redis is somebody else's.
CELERY_BROKER_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/1")
CELERY_RESULT_BACKEND = CELERY_BROKER_URL
# A page is not to hang where Redis is away: after these seconds `delay()` raises.
CELERY_BROKER_PUBLISH_TIMEOUT = 3
# For `celeriac top` and Flower.
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_TASK_SEND_SENT_EVENT = True

CELERY_BEAT_SCHEDULE = {
    "say-hello": {
        "task": "shop.tasks.notify_customers",
        "schedule": 5,
        "args": ("Hello",),
        "options": {"expires": 5},  # a worker that was away is not to say it a hundred times
    },
    "monday-report": {
        "task": "shop.tasks.report",
        "schedule": crontab(day_of_week=1, hour=7, minute=30),
    },
    "kept-notices": {
        "task": "shop.tasks.send_kept_notices",
        "schedule": crontab(minute="*/15"),
    },
}
