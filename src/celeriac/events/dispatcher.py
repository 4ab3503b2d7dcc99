"""Celery's ways to send events by hand: `app.events.Dispatcher` and the function `Event`.

Owns: Event, EventDispatcher.  Thread rule: any thread.  May import: kernel, client, events.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from celeriac.events.emitter import Emitter
from celeriac.kernel.events import event


def Event(type: str, _fields: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:  # noqa: A002, N802 - Celery's names
    """Return an event as a mapping: `type`, `timestamp` and the fields."""
    made = {**(_fields or {}), **fields, "type": type}
    made.setdefault("timestamp", time.time())
    return made


def client_name() -> str:
    """Return what a program that is no worker is called in events."""
    return f"gen{os.getpid()}@{socket.gethostname()}"


class EventDispatcher:
    """Sends events.

    :param app: whose bus is used.
    :param hostname: the sender's name in them; the process's where None.
    :param groups: kinds before the "-", such as "task"; all where empty.
    :param kwargs: Celery's other arguments, which mean nothing here.
    """

    def __init__(
        self,
        connection: Any = None,
        hostname: str | None = None,
        channel: Any = None,
        buffer_while_offline: bool = True,
        enabled: bool = True,
        serializer: str | None = None,
        groups: Iterable[str] | None = None,
        *,
        app: Any = None,
        **kwargs: Any,
    ) -> None:
        self.app = app
        self.hostname = hostname or client_name()
        self.enabled = enabled
        self.groups = set(groups or ())
        self.on_enabled: set[Callable[[], Any]] = set()
        self.on_disabled: set[Callable[[], Any]] = set()
        # One without a name of its own sends through the app's, which is emptied with the app.
        self._emitter: Emitter | None = None
        if hostname is not None:
            self._emitter = Emitter(lambda: app.bus, hostname)

    def send(self, type: str, blind: bool = False, **fields: Any) -> None:  # noqa: A002 - Celery's name
        """Send an event soon, without waiting for anything.

        :param blind: accepted; there is no logical clock to move.
        """
        if not self.enabled or (self.groups and type.partition("-")[0] not in self.groups):
            return
        for retry in ("retry", "retry_policy", "utcoffset", "Event"):
            fields.pop(retry, None)
        at = fields.pop("timestamp", None) or time.time()
        batch = [event(type, at, fields)]
        if self._emitter is not None:
            self._emitter.put(batch)
        else:
            self.app.tell(batch)

    publish = send

    def enable(self) -> None:
        """Send from now on."""
        self.enabled = True
        for callback in self.on_enabled:
            callback()

    def disable(self) -> None:
        """Send no more."""
        self.enabled = False
        for callback in self.on_disabled:
            callback()

    def flush(self, errors: bool = True, groups: bool = True) -> None:
        """Send what waits, now."""
        if self._emitter is not None:
            self._emitter.flush()
        else:
            self.app.events.emitter.flush()

    def close(self) -> None:
        """Send what waits and end."""
        if self._emitter is not None:
            self._emitter.close()
        else:
            self.flush()

    def __enter__(self) -> EventDispatcher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
