"""Tasks of the queue `tasks`, which gives the most urgent first: on RabbitMQ from 0 to 10."""

import os
import time

from celeriac import shared_task

SECONDS = float(os.environ.get("TASK_SECONDS", "3"))


@shared_task
def t1(a, b, message=None):
    time.sleep(SECONDS)
    return f"{message}: {a + b}" if message else a + b


@shared_task
def t2(a, b, message=None):
    time.sleep(SECONDS)
    return f"{message}: {a * b}" if message else a * b


@shared_task
def t3(a, b, message=None):
    time.sleep(SECONDS)
    return f"{message}: {a - b}" if message else a - b
