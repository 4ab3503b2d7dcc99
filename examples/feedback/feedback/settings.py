"""Settings; what differs from machine to machine comes from the environment."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).parents[1]

SECRET_KEY = os.environ.get("SECRET_KEY", "only good for trying this out")
DEBUG = os.environ.get("DEBUG", "1") == "1"
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = "feedback.urls"
WSGI_APPLICATION = "feedback.wsgi.application"
INSTALLED_APPS = ["django.contrib.staticfiles", "contact"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
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

EMAIL_HOST = os.environ.get("EMAIL_HOST", "localhost")
EMAIL_PORT = int(os.environ.get("EMAIL_PORT", "1025"))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = "feedback@example.com"

FEEDBACK_SECONDS = float(os.environ.get("FEEDBACK_SECONDS", "20"))
"""How long a mail takes: this stands for a slow mail server."""
FEEDBACK_RETRY_SECONDS = float(os.environ.get("FEEDBACK_RETRY_SECONDS", "2"))
"""The first pause after a mail that failed; each further one is twice as long."""
FEEDBACK_TIME_LIMIT = float(os.environ.get("FEEDBACK_TIME_LIMIT", "60"))
"""Seconds after which a mail that hangs is given up."""

CELERY_BROKER_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
CELERY_RESULT_BACKEND = CELERY_BROKER_URL
# A page is not to hang where Redis is away: after these seconds `delay()` raises.
CELERY_BROKER_PUBLISH_TIMEOUT = float(os.environ.get("PUBLISH_TIMEOUT", "3"))
