"""What the worker does."""

import os
import time

from longtime.celery import app

SECONDS = float(os.environ.get("LONGTIME_SECONDS", "5"))


@app.task
def longtime_add(x: int, y: int) -> int:
    """Add two numbers, slowly."""
    print("long time task begins")
    time.sleep(SECONDS)
    print("long time task finished")
    return x + y
