"""The tasks that are measured, under Celery; the Redis is named by CELERY_BROKER_URL."""

from celery import Celery

app = Celery("bench")


@app.task(name="bench.noop")
def noop(number: int = 0) -> None:
    """Do nothing, and keep the result."""


@app.task(name="bench.noop_ignored", ignore_result=True)
def noop_ignored(number: int = 0) -> None:
    """Do nothing, and keep no result."""


@app.task(name="bench.count")
def count(values: list[None]) -> int:
    """Return how many results a chord's body was given."""
    return len(values)


@app.task(name="bench.stamp", ignore_result=True)
def stamp(path: str, sent: float) -> None:
    """Append how long the message took from its sending to here, in seconds."""
    import time

    late = time.time() - sent
    with open(path, "a") as file:
        file.write(f"{late}\n")
