"""Settings; what differs from machine to machine comes from the environment."""

import os
from pathlib import Path

from celeriac import Exchange, Queue

BASE_DIR = Path(__file__).parents[1]

SECRET_KEY = os.environ.get("SECRET_KEY", "only good for trying this out")
DEBUG = os.environ.get("DEBUG", "0") == "1"
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = "dcelery.urls"
WSGI_APPLICATION = "dcelery.wsgi.application"
INSTALLED_APPS = ["work"]
MIDDLEWARE = [
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
DATABASES = {}
USE_TZ = True
TIME_ZONE = "UTC"

REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
CELERY_BROKER_URL = os.environ.get("BROKER_URL", REDIS_URL)
CELERY_RESULT_BACKEND = REDIS_URL  # on RabbitMQ too: a chord needs a store that all workers share

CELERY_TASK_DEFAULT_QUEUE = "queue1"
CELERY_TASK_QUEUES = [
    Queue("queue1"),
    Queue("queue2"),
    Queue(
        "tasks",
        Exchange("tasks"),
        routing_key="tasks",
        queue_arguments={"x-max-priority": 10},
    ),
]
CELERY_TASK_ROUTES = {
    "work.tasks.task1": {"queue": "queue1"},
    "work.tasks.task2": {"queue": "queue2"},
    "work.priorities.*": {"queue": "tasks"},
}

# A worker takes two tasks and not one more: what is urgent need not wait behind what was fetched before.
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_CONCURRENCY = 2
CELERY_TASK_TIME_LIMIT = 60
