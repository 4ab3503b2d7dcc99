"""Settings; what differs from machine to machine comes from the environment."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

BASE_DIR = Path(__file__).parents[1]

SECRET_KEY = os.environ.get("SECRET_KEY", "only good for trying this out")
DEBUG = os.environ.get("DEBUG", "0") == "1"
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = "twitter.urls"
WSGI_APPLICATION = "twitter.wsgi.application"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "feed",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.contrib.auth.context_processors.auth"]},
    }
]
AUTH_USER_MODEL = "feed.User"
LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"

if url := os.environ.get("DATABASE_URL"):  # postgresql://user:password@host:5432/name
    parts = urlsplit(url)
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": parts.path[1:],
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": parts.hostname or "",
            "PORT": parts.port or "",
            "CONN_MAX_AGE": 600,
        }
    }
else:
    FOLDER = Path(os.environ.get("SQLITE_FOLDER", BASE_DIR))
    sqlite = {
        "ENGINE": "django.db.backends.sqlite3",
        "CONN_MAX_AGE": 600,
        "OPTIONS": {
            # WAL: who reads and who writes do not wait for each other. IMMEDIATE: who writes waits for
            # another writer before it has read anything, and not after, when it would be too late.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
            "transaction_mode": "IMMEDIATE",
            "timeout": 30,
        },
    }
    # A file has one writer at a time, and the workers would leave the site no turn: so the feeds, which
    # they write without a pause, have a file of their own.
    DATABASES = {
        "default": {**sqlite, "NAME": FOLDER / "twitter.sqlite3"},
        "feeds": {**sqlite, "NAME": FOLDER / "feeds.sqlite3"},
    }
    DATABASE_ROUTERS = ["feed.routers.FeedRouter"]

REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
CELERY_BROKER_URL = REDIS_URL
CELERY_RESULT_BACKEND = REDIS_URL
CELERY_BROKER_PUBLISH_TIMEOUT = 3
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_TIME_LIMIT = 120

FANOUT_BATCH = int(os.environ.get("FANOUT_BATCH", "1000"))
"""How many feeds one task writes: large enough to be worth a task, short enough to let others write."""
