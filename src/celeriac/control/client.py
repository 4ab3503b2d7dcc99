"""`app.control`: tells workers what to do, and asks them.

Owns: Control, Inspect.  May import: kernel, ports, client, control.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from celeriac.control.inbox import TOPIC
from celeriac.kernel.ids import uuid

Replies = list[dict[str, Any]]


class Control:
    """Remote control of an app's workers.

    :param app: whose bus is used.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    def broadcast(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        destination: Sequence[str] | None = None,
        reply: bool = False,
        timeout: float = 1.0,
        limit: int | None = None,
    ) -> Replies | None:
        """Send a command to all workers, or to those in `destination`.

        :param reply: wait for replies, up to `timeout` seconds.
        :param limit: end the wait after so many replies; as many as `destination` where None.
        :return: a list of {node name: value} with `reply`, else None.
        """
        ticket = uuid()
        message: dict[str, Any] = {
            "method": command,
            "arguments": dict(arguments or {}),
            "destination": list(destination) if destination else None,
            "ticket": ticket,
            "expires": time.time() + max(timeout, 60.0),
        }
        bus = self._app.bus
        if not reply:
            bus.send(TOPIC, [json.dumps(message).encode()])
            return None
        message["reply_to"] = topic = f"reply.{ticket}"
        limit = limit or (len(destination) if destination else None)
        subscription = bus.subscribe([topic])
        found: Replies = []
        try:
            bus.send(TOPIC, [json.dumps(message).encode()])
            ends = time.monotonic() + timeout
            while (left := ends - time.monotonic()) > 0 and (limit is None or len(found) < limit):
                for _, body in subscription.poll(left):
                    found.append(json.loads(body)["reply"])
        finally:
            subscription.close()
        return found

    def ping(self, destination: Sequence[str] | None = None, timeout: float = 1.0) -> Replies:
        """Return who answers: `[{node name: {"ok": "pong"}}, ...]`."""
        return self.broadcast("ping", destination=destination, reply=True, timeout=timeout) or []

    def revoke(
        self,
        task_id: str | Sequence[str],
        destination: Sequence[str] | None = None,
        terminate: bool = False,
        signal: str = "SIGTERM",
        **kwargs: Any,
    ) -> None:
        """Keep tasks from starting; with `terminate`, end those that run."""
        ids = [task_id] if isinstance(task_id, str) else list(task_id)
        arguments = {"task_id": ids, "terminate": terminate}
        self.broadcast("revoke", arguments, destination)

    def terminate(self, task_id: str | Sequence[str], **kwargs: Any) -> None:
        """End tasks that run, and keep those that wait from starting."""
        self.revoke(task_id, terminate=True, **kwargs)

    def shutdown(self, destination: Sequence[str] | None = None) -> None:
        """End workers, warm."""
        self.broadcast("shutdown", destination=destination)

    def purge(self) -> int:
        """Drop what waits in the declared queues; return how many."""
        broker = self._app.broker
        return sum(broker.purge(name) for name in broker.count(()))

    discard_all = purge

    def inspect(
        self,
        destination: Sequence[str] | str | None = None,
        timeout: float = 1.0,
        limit: int | None = None,
    ) -> Inspect:
        """Return what asks workers."""
        return Inspect(self, destination, timeout, limit)


class Inspect:
    """Asks workers; each answer is `{node name: value}`, or None where none came."""

    def __init__(
        self,
        control: Control,
        destination: Sequence[str] | str | None,
        timeout: float,
        limit: int | None,
    ) -> None:
        self._control = control
        self._destination = [destination] if isinstance(destination, str) else destination
        self._timeout, self._limit = timeout, limit

    def _ask(self, command: str) -> dict[str, Any] | None:
        replies = self._control.broadcast(
            command,
            destination=self._destination,
            reply=True,
            timeout=self._timeout,
            limit=self._limit,
        )
        return {node: value for reply in replies or () for node, value in reply.items()} or None

    def ping(self) -> dict[str, Any] | None:
        """Ask who is there."""
        return self._ask("ping")

    def active(self) -> dict[str, Any] | None:
        """Ask what is held."""
        return self._ask("active")

    def stats(self) -> dict[str, Any] | None:
        """Ask for figures."""
        return self._ask("stats")

    def registered(self) -> dict[str, Any] | None:
        """Ask for the tasks that are known."""
        return self._ask("registered")

    def active_queues(self) -> dict[str, Any] | None:
        """Ask for the queues that are consumed."""
        return self._ask("active_queues")
