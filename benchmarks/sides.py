"""Who is measured: celeriac on each of its brokers, Celery on Redis and RabbitMQ, others on Redis.

A side has `label`, `environment` and `command` of its workers, `send_many`, `left`, `close`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from celeriac import Celeriac


class RedisServer:
    """A server of its own, without a file."""

    def __init__(self, folder: Path) -> None:
        import redis

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1"],
            cwd=folder,
            stdout=subprocess.DEVNULL,
        )
        self.url = f"redis://127.0.0.1:{port}/0"
        self.client = redis.Redis.from_url(self.url)
        while True:
            try:
                self.client.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.02)

    def close(self) -> None:
        """End the server."""
        self.client.close()
        self.process.terminate()
        self.process.wait()


class RabbitServer:
    """A RabbitMQ of its own."""

    def __init__(self, folder: Path) -> None:
        from tests.support.rabbitmq import start

        self.server = start(folder / "rabbitmq")
        self.url = self.server.url

    def close(self) -> None:
        """End the server."""
        self.server.stop()


class Celery:
    """Celery on Redis."""

    label = "Celery, Redis"
    module = "benchmarks.celery_app"

    def __init__(self, server: RedisServer) -> None:
        self.client = server.client
        self.environment = {"CELERY_BROKER_URL": server.url, "CELERY_RESULT_BACKEND": server.url}
        os.environ.update(self.environment)
        import celery

        self.app = celery.Celery("bench", broker=server.url, backend=server.url)
        for name in self.environment:
            del os.environ[name]

    def left(self) -> int:
        """Return how many messages wait or are held."""
        return int(self.client.llen("celery")) + int(self.client.hlen("unacked"))

    def command(self, pool: str, concurrency: int) -> list[str]:
        """Return the command of a worker."""
        return [
            *(sys.executable, "-m", "celery", "-A", self.module, "worker", "-l", "WARNING"),
            *("-P", pool, "-c", str(concurrency)),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ]

    def send_many(self, name: str, count: int) -> None:
        """Send tasks, one by one as Celery does."""
        for number in range(count):
            self.app.send_task(name, (number,))

    def close(self) -> None:
        """Let go of the connections."""
        self.app.close()


class CeleryOnRabbit(Celery):
    """Celery on RabbitMQ, with confirms as its documentation advises, and results by reply."""

    label = "Celery, RabbitMQ"

    def __init__(self, server: RabbitServer) -> None:
        self.environment = {"CELERY_BROKER_URL": server.url, "CELERY_RESULT_BACKEND": "rpc://"}
        import celery

        self.app = celery.Celery("bench", broker=server.url, backend="rpc://")
        self.app.conf.broker_transport_options = {"confirm_publish": True}
        self.counts = Ours("counts", server.url)

    def left(self) -> int:
        """Return how many messages wait; what is held cannot be seen."""
        return self.counts.left()

    def close(self) -> None:
        """Let go of the connections."""
        self.counts.close()
        super().close()


class Ours:
    """celeriac on any broker."""

    module = "benchmarks.celeriac_app"

    def __init__(self, label: str, url: str) -> None:
        self.label, self.url = f"celeriac, {label}", url
        self.environment = {"CELERIAC_BROKER_URL": url, "CELERIAC_RESULT_BACKEND": url}
        self.app = Celeriac("bench", broker=url, result_backend=url)

    def left(self) -> int:
        """Return how many messages wait or are held."""
        counts = self.app.broker.count(["celery"])["celery"]
        return counts.ready + counts.delayed + counts.held

    def command(self, pool: str, concurrency: int) -> list[str]:
        """Return the command of a worker."""
        return [
            *(sys.executable, "-m", "celeriac", "-A", self.module, "worker", "-l", "WARNING"),
            *("-P", pool, "-c", str(concurrency)),
        ]

    def send_many(self, name: str, count: int) -> None:
        """Send tasks in a batch."""
        with self.app.batch():
            for number in range(count):
                self.app.send_task(name, (number,))

    def send_each(self, name: str, count: int) -> None:
        """Send tasks one by one."""
        for number in range(count):
            self.app.send_task(name, (number,))

    def close(self) -> None:
        """Let go of the connections."""
        self.app.close()


class Dramatiq:
    """dramatiq on Redis: processes with threads."""

    label = "dramatiq, Redis"
    module = "benchmarks.dramatiq_app"

    def __init__(self, server: RedisServer) -> None:
        self.client = server.client
        self.environment = {"BENCH_REDIS_URL": server.url}
        os.environ.update(self.environment)
        import benchmarks.dramatiq_app as app

        self.app: Any = app

    def left(self) -> int:
        """Return how many messages wait or are held."""
        return int(self.client.hlen("dramatiq:default.msgs"))

    def command(self, pool: str, concurrency: int) -> list[str]:
        """Return the command of a worker: processes for prefork, each with its default 8 threads."""
        processes, threads = (concurrency, 8) if pool == "prefork" else (1, 8)
        return [
            *(sys.executable, "-m", "dramatiq", self.module),
            *("-p", str(processes), "-t", str(threads)),
        ]

    def send_many(self, name: str, count: int) -> None:
        """Send tasks, one by one as dramatiq does."""
        actor = self.app.broker.get_actor(name)
        for number in range(count):
            actor.send(number)

    def close(self) -> None:
        """Let go of the connections."""
        self.app.broker.close()


class Taskiq:
    """taskiq on Redis lists: one process, tasks on its event loop."""

    label = "taskiq, Redis"
    module = "benchmarks.taskiq_app"

    def __init__(self, server: RedisServer) -> None:
        self.client = server.client
        self.environment = {"BENCH_REDIS_URL": server.url, "BENCH_RESULTS": "1"}
        os.environ.update(self.environment)
        import benchmarks.taskiq_app as app

        self.app: Any = app

    def left(self) -> int:
        """Return how many messages wait; what is held cannot be seen."""
        return int(self.client.llen("taskiq"))

    def command(self, pool: str, concurrency: int) -> list[str]:
        """Return the command of a worker."""
        workers = str(concurrency if pool == "prefork" else 1)
        return [
            *(sys.executable, "-m", "taskiq", "worker", f"{self.module}:broker"),
            *("--workers", workers, "--log-level", "WARNING"),
        ]

    def send_many(self, name: str, count: int) -> None:
        """Send tasks, one by one as taskiq does."""

        async def send() -> None:
            task = self.app.broker.find_task(name)
            for number in range(count):
                await task.kiq(number)
            await self.app.broker.connection_pool.disconnect()

        asyncio.run(send())

    def close(self) -> None:
        """Nothing is open between two calls."""
