"""What a worker can be told, by name.

Owns: TABLE.  May import: kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol


class Controlled(Protocol):
    """What commands need of a worker."""

    app: Any
    hostname: str
    queues: Sequence[Any]

    def revoke(self, ids: Sequence[str], *, terminate: bool) -> None:
        """Keep tasks from starting; with `terminate`, end those that run."""
        ...

    def active(self) -> list[dict[str, Any]]:
        """Return what is held."""
        ...

    def stats(self) -> dict[str, Any]:
        """Return figures."""
        ...

    def stop(self, how: str = "warm") -> None:
        """Ask the worker to end."""
        ...


def ping(worker: Controlled) -> dict[str, str]:
    """Answer."""
    return {"ok": "pong"}


def revoke(
    worker: Controlled, task_id: str | Sequence[str], terminate: bool = False, signal: str = ""
) -> dict[str, str]:
    """Keep tasks from starting; with `terminate`, end those that run."""
    ids = [task_id] if isinstance(task_id, str) else list(task_id)
    worker.revoke(ids, terminate=terminate)
    return {"ok": f"tasks {', '.join(ids[:5])} flagged as revoked"}


def active(worker: Controlled) -> list[dict[str, Any]]:
    """Return what is held."""
    return worker.active()


def stats(worker: Controlled) -> dict[str, Any]:
    """Return figures."""
    return worker.stats()


def registered(worker: Controlled) -> list[str]:
    """Return the names of the tasks that the worker knows."""
    return sorted(worker.app.tasks.regular())


def active_queues(worker: Controlled) -> list[dict[str, str]]:
    """Return the queues that are consumed."""
    return [
        {"name": q.name, "exchange": q.exchange.name, "routing_key": q.routing_key}
        for q in worker.queues
    ]


def shutdown(worker: Controlled) -> dict[str, str]:
    """End the worker, warm."""
    worker.stop("warm")
    return {"ok": "shutting down"}


TABLE: dict[str, Callable[..., Any]] = {
    command.__name__: command
    for command in (ping, revoke, active, stats, registered, active_queues, shutdown)
}
