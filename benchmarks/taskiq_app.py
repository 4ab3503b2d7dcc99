"""The tasks that are measured, under taskiq; the server is named by BENCH_REDIS_URL."""

import os

from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

URL = os.environ["BENCH_REDIS_URL"]
broker = ListQueueBroker(URL)
if os.environ.get("BENCH_RESULTS"):
    broker = broker.with_result_backend(RedisAsyncResultBackend(URL, result_ex_time=3600))


@broker.task(task_name="bench.noop")
async def noop(number: int = 0) -> None:
    """Do nothing, and keep the result."""


@broker.task(task_name="bench.noop_ignored")
async def noop_ignored(number: int = 0) -> None:
    """Do nothing, and keep no result."""
