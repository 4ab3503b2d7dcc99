"""The app: which server, whose login, and how results come back."""

import os

from celeriac import Celery

app = Celery(
    "longtime",
    broker=os.environ.get("BROKER_URL", "amqp://jimmy:jimmy123@localhost:5672/jimmy_vhost"),
    backend="rpc://",
    include=["longtime.tasks"],
)
