"""The tasks that are measured, under dramatiq; the server is named by BENCH_REDIS_URL."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

URL = os.environ["BENCH_REDIS_URL"]
broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=RedisBackend(url=URL)))
dramatiq.set_broker(broker)


@dramatiq.actor(actor_name="bench.noop", store_results=True)
def noop(number: int = 0) -> int:
    """Do nothing, and keep the result."""
    return number


@dramatiq.actor(actor_name="bench.noop_ignored")
def noop_ignored(number: int = 0) -> None:
    """Do nothing, and keep no result."""
