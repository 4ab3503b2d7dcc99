"""A worker's ear: takes commands off the bus, carries them out, replies.

A command is a JSON object on the topic `control`: method, arguments, destination (node names or
null), reply_to (a topic or null), ticket.  A reply is `{node name: value}` with the ticket.

Owns: Inbox.  Thread rule: one thread.  May import: kernel, ports, control.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from celeriac.control.commands import TABLE, Controlled
from celeriac.kernel.errors import CeleryError
from celeriac.ports.bus import Subscription

logger = logging.getLogger("celeriac.control")

TOPIC = "control"
WAIT = 5.0
"""Seconds of one poll; a safety net, since a command ends it."""


class Inbox:
    """Listens for one worker.

    :param worker: what the commands act on.
    """

    name = "control"

    def __init__(self, worker: Any) -> None:
        self._worker: Controlled = worker
        self._stopping = threading.Event()
        self._subscription: Subscription | None = None
        self._thread = threading.Thread(target=self._run, name="celeriac-control", daemon=True)

    def start(self) -> None:
        """Begin to listen; a second call, or one after `stop`, does nothing."""
        if self._subscription is not None or self._stopping.is_set():
            return
        self._subscription = self._worker.app.bus.subscribe([TOPIC])
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end."""
        self._stopping.set()
        if self._subscription is not None:
            self._subscription.wake()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has ended."""
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        subscription = self._subscription
        assert subscription is not None
        try:
            while not self._stopping.is_set():
                try:
                    messages = subscription.poll(WAIT)
                except CeleryError as error:
                    logger.warning("remote control is deaf for a while: %s", error)
                    self._stopping.wait(1.0)
                    continue
                for _, message in messages:
                    try:
                        self._obey(message)
                    except Exception:  # whatever was sent, the worker must not go deaf
                        logger.exception("a control message was dropped")
        finally:
            subscription.close()

    def _obey(self, message: bytes) -> None:
        try:
            command = json.loads(message)
            method, arguments = command["method"], command.get("arguments") or {}
            destination, expires = command.get("destination"), command.get("expires") or 0.0
            handler: Callable[..., Any] | None = TABLE.get(method)
        except (ValueError, TypeError, KeyError) as error:
            logger.error("a control message that cannot be read was dropped: %s", error)
            return
        worker = self._worker
        if destination and worker.hostname not in destination:
            return
        if expires and time.time() > expires:
            return
        if handler is None:
            reply: Any = {"error": f"no command is called {method!r}"}
        else:
            try:
                reply = handler(worker, **arguments)
            except Exception as error:  # a command of the user's may raise anything
                logger.exception("the command %s failed", method)
                reply = {"error": repr(error)}
        if command.get("reply_to"):
            body = {"ticket": command.get("ticket"), "reply": {worker.hostname: reply}}
            try:
                worker.app.bus.send(command["reply_to"], [json.dumps(body, default=str).encode()])
            except CeleryError as error:
                logger.warning("the reply to %s was not sent: %s", method, error)
