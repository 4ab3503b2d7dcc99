"""`app.events`: what an app has to do with events.

Owns: Events.  May import: client, events.
"""

from __future__ import annotations

import atexit
import functools
import threading
import weakref
from typing import Any

from celeriac.events.dispatcher import EventDispatcher, client_name
from celeriac.events.emitter import Emitter
from celeriac.events.receiver import EventReceiver
from celeriac.events.state import State


class Events:
    """Sends, receives and gathers the events of one app."""

    receiver_cls = EventReceiver
    dispatcher_cls = EventDispatcher
    state_cls = State

    def __init__(self, app: Any) -> None:
        self.app = app
        self._lock = threading.Lock()
        self._emitter: Emitter | None = None

    @property
    def emitter(self) -> Emitter:
        """What sends the events of this process, where it is no worker."""
        with self._lock:
            if self._emitter is None:
                self._emitter = Emitter(lambda: self.app.bus, client_name())
                atexit.register(_close, weakref.ref(self))
            return self._emitter

    @property
    def Receiver(self) -> Any:  # noqa: N802 - Celery's name
        """Make a receiver: `Receiver(connection, handlers={"*": function})`."""
        return functools.partial(self.receiver_cls, app=self.app)

    @property
    def Dispatcher(self) -> Any:  # noqa: N802 - Celery's name
        """Make a dispatcher: `Dispatcher(hostname="me@here")`."""
        return functools.partial(self.dispatcher_cls, app=self.app)

    @property
    def State(self) -> Any:  # noqa: N802 - Celery's name
        """Make an empty picture: `State()`, whose `event` takes events."""
        return self.state_cls

    def default_dispatcher(
        self, hostname: str | None = None, enabled: bool = True, buffer_while_offline: bool = False
    ) -> EventDispatcher:
        """Return a dispatcher; use it in a `with` block."""
        return EventDispatcher(hostname=hostname, enabled=enabled, app=self.app)

    def close(self) -> None:
        """Send what waits; later events start anew."""
        with self._lock:
            emitter, self._emitter = self._emitter, None
        if emitter is not None:
            emitter.close()


def _close(ref: weakref.ref[Events]) -> None:
    events = ref()
    if events is not None:
        events.close()
