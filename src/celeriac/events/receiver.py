"""`app.events.Receiver`: listens to the fleet and calls a function for each event.

Owns: EventReceiver.  Thread rule: one thread captures; `should_stop` may be set from any.
May import: kernel, client, ports, events.
"""

from __future__ import annotations

import fnmatch
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from celeriac.kernel.errors import CeleryError, WireError
from celeriac.kernel.events import TOPIC, read
from celeriac.ports.bus import Subscription

logger = logging.getLogger("celeriac.events")

WAIT = 1.0
"""Seconds of one poll, after which `should_stop` is looked at."""
PAUSE = 1.0
"""Seconds between attempts while the broker is away."""


class EventReceiver:
    """Calls handlers for events.

    :param channel: Celery's connection; not used.
    :param handlers: functions of one event by its type; "*" is called for all that have none.
    :param routing_key: a pattern for types, as in "task.#" or "worker.heartbeat".
    :param app: whose bus is listened to.
    """

    def __init__(
        self,
        channel: Any = None,
        handlers: Mapping[str, Callable[[dict[str, Any]], Any]] | None = None,
        routing_key: str = "#",
        node_id: str | None = None,
        app: Any = None,
        queue_prefix: str | None = None,
        accept: Any = None,
        **kwargs: Any,
    ) -> None:
        self.app = app
        self.handlers = dict(handlers or {})
        self.routing_key = routing_key
        self.should_stop = False
        self._pattern = routing_key.replace(".", "-").replace("#", "*")
        self._heard: Subscription | None = None

    def listen(self) -> Subscription:
        """Begin to listen; what is sent from now on will be captured."""
        heard = self._heard
        if heard is None:
            heard = self.app.bus.subscribe([TOPIC])
            self._heard = heard
        return heard

    def process(self, type: str, event: dict[str, Any]) -> None:  # noqa: A002 - Celery's name
        """Call the handler of an event."""
        handler = self.handlers.get(type) or self.handlers.get("*")
        if handler is not None:
            handler(event)

    def wakeup_workers(self, channel: Any = None) -> None:
        """Ask workers for a heartbeat."""
        self.app.control.broadcast("heartbeat")

    def capture(
        self, limit: int | None = None, timeout: float | None = None, wakeup: bool = True
    ) -> None:
        """Handle events until `limit` of them were seen, or `should_stop` is set.

        :param timeout: seconds without an event after which TimeoutError is raised.
        :param wakeup: ask workers for a heartbeat first.
        :raises TimeoutError: nothing came for so long.
        """
        for _ in self.itercapture(limit, timeout, wakeup):
            pass

    def itercapture(
        self, limit: int | None = None, timeout: float | None = None, wakeup: bool = True
    ) -> Iterator[dict[str, Any]]:
        """As `capture`; yields the events once they were handled."""
        self.listen()
        try:
            if wakeup:
                self.wakeup_workers()
            for count, event in enumerate(self._events(timeout), 1):
                self.process(event["type"], event)
                yield event
                if limit is not None and count >= limit:
                    return
        finally:
            self.close()

    def _events(self, timeout: float | None) -> Iterator[dict[str, Any]]:
        heard_at = time.monotonic()
        while not self.should_stop:
            left = WAIT if timeout is None else min(WAIT, heard_at + timeout - time.monotonic())
            if left <= 0:
                raise TimeoutError(f"no event came for {timeout} s")
            for event in self.poll(left):
                heard_at = time.monotonic()
                yield event
                if self._is_over():
                    return

    def _is_over(self) -> bool:
        return self.should_stop

    def poll(self, wait: float) -> list[dict[str, Any]]:
        """Return the events of up to `wait` seconds, as soon as there are some."""
        try:
            messages = self.listen().poll(wait)
        except CeleryError as error:
            logger.warning("events are not heard for a while: %s", error)
            self.close()
            time.sleep(min(PAUSE, wait))
            return []
        found = []
        for _, message in messages:
            try:
                events = read(message)
            except WireError as error:
                logger.warning("a message on the topic of events was dropped: %s", error)
                continue
            now = time.time()
            for event in events:
                if self._pattern == "*" or fnmatch.fnmatchcase(event["type"], self._pattern):
                    event["local_received"] = now
                    found.append(event)
        return found

    def close(self) -> None:
        """Stop listening."""
        heard, self._heard = self._heard, None
        if heard is not None:
            heard.close()

    def __enter__(self) -> EventReceiver:
        self.listen()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
