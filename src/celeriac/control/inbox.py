"""A worker's ear: takes commands off the bus, carries them out, replies.

A command is a JSON object on the topic `control`: method, arguments, destination (node names or
null), pattern and matcher, reply_to (a topic or null), ticket.  A reply is `{node name: value}` with
the ticket.  Standing orders are read once a second, and whenever a command came.

Owns: Inbox.  Thread rule: one thread, and one for each slow command.
May import: kernel, ports, client, control.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

import celeriac.control.changes
import celeriac.control.commands  # noqa: F401 - each fills the panel
from celeriac.client.panel import PANEL, CommandRefused
from celeriac.control.address import is_meant
from celeriac.kernel.errors import CeleryError
from celeriac.ports.bus import Subscription

logger = logging.getLogger("celeriac.control")

TOPIC = "control"
WAIT = 1.0
"""Seconds of one poll: how late a worker hears of standing orders whose command was lost."""
AWAY = 1.0
"""Seconds between attempts while the broker is away."""
LARGEST = 1_000_000
"""Bytes of a command; a larger one is refused unread."""
SLOW = 8
"""Slow commands at the same time."""
LONGEST_ABSENCE = 1800.0
"""Seconds without standing orders after which all are read anew: what was taken back may be gone."""


class Message(msgspec.Struct):
    """A command as it travels."""

    method: str
    arguments: dict[str, Any] | None = None
    destination: list[str] | None = None
    pattern: str | None = None
    matcher: str | None = None
    ticket: str | None = None
    expires: float | None = None
    reply_to: Any = None


_decode = msgspec.json.Decoder(Message).decode


class Inbox:
    """Listens for one worker.

    :param worker: its `remote` is what the commands act on.
    :param topics: none where remote control is off: standing orders are obeyed all the same.
    """

    name = "control"

    def __init__(self, worker: Any, *, topics: Sequence[str] = (TOPIC,)) -> None:
        self._worker, self._topics = worker, topics
        self._stopping = threading.Event()
        self._subscription: Subscription | None = None
        self._mark, self._read_at = 0, time.monotonic()
        self._refused: set[str] = set()
        self._slow = threading.BoundedSemaphore(SLOW)
        self._thread = threading.Thread(target=self._run, name="celeriac-control", daemon=True)

    def start(self) -> None:
        """Begin to listen; a second call, or one after `stop`, does nothing."""
        if self._thread.ident is not None or self._stopping.is_set():
            return
        if self._topics:
            self._subscription = self._worker.app.bus.subscribe(self._topics)
        # Before the first task is claimed: a paused queue must not be touched.
        self.look()
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

    def look(self) -> None:
        """Read the standing orders, and obey."""
        orders = self._worker.app.orders
        if orders is None:
            return
        now = time.monotonic()
        mark = self._mark if now - self._read_at < LONGEST_ABSENCE else 0
        try:
            new, given = orders.since(mark)
        except CeleryError as error:
            logger.debug("the standing orders were not read: %s", error)
            return
        remote = self._worker.remote
        was_paused = mark == 0 and bool(remote.paused)
        if was_paused:
            remote.paused.clear()
        self._mark, self._read_at = new, now
        if given:
            remote.obey(given)
        if was_paused:
            remote.consume()

    def _run(self) -> None:
        subscription = self._subscription
        if subscription is None:
            while not self._stopping.wait(WAIT):
                self.look()
            return
        away = False
        try:
            while not self._stopping.is_set():
                try:
                    messages = subscription.poll(WAIT)
                except CeleryError as error:
                    if not away:
                        logger.warning("remote control is deaf until the broker is back: %s", error)
                    away = True
                    self._stopping.wait(AWAY)
                    continue
                if away:
                    logger.info("remote control hears again")
                    away = False
                self.look()
                for _, message in messages:
                    self.take(message, self._reply)
        finally:
            subscription.close()

    def take(
        self,
        body: bytes,
        reply: Callable[[Message, Any], None],
        *,
        expires: float = 0.0,
        before: Callable[[Message], None] | None = None,
    ) -> None:
        """Carry out one command, whatever it is: the worker must not go deaf.

        :param expires: unix seconds after which it is void, where the command does not say so.
        :param before: called with one that is meant for this worker, before it is carried out.
        """
        try:
            self._obey(body, reply, expires, before)
        except Exception:
            logger.exception("a control message was dropped")

    def _obey(
        self,
        body: bytes,
        reply: Callable[[Message, Any], None],
        expires: float,
        before: Callable[[Message], None] | None,
    ) -> None:
        if len(body) > LARGEST:
            self.refuse("size", f"a control message of {len(body):,} bytes was dropped unread")
            return
        try:
            message = _decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self.refuse("form", f"a control message that cannot be read was dropped: {error}")
            return
        remote = self._worker.remote
        if not is_meant(remote.hostname, message.destination, message.pattern, message.matcher):
            return
        expires = message.expires or expires
        if expires and time.time() > expires:
            return
        if before is not None:
            before(message)
        command = PANEL.get(message.method)
        if command is not None and command.slow:
            if not self._slow.acquire(blocking=False):
                reply(message, {"error": f"{SLOW} slow commands run already: try again later"})
                return
            work = threading.Thread(
                target=self._carry_out_slowly, args=(message, reply), name="celeriac-command"
            )
            work.daemon = True
            work.start()
        else:
            self._carry_out(message, reply)

    def _carry_out_slowly(self, message: Message, reply: Callable[[Message, Any], None]) -> None:
        def answer(message: Message, value: Any) -> None:
            if not self._stopping.is_set():  # else the app is closed, and would be opened again
                reply(message, value)

        try:
            self._carry_out(message, answer)
        finally:
            self._slow.release()

    def _carry_out(self, message: Message, reply: Callable[[Message, Any], None]) -> None:
        command = PANEL.get(message.method)
        try:
            if command is None:
                raise CommandRefused(f"no command is called {message.method[:100]!r}")
            value = command(self._worker.remote, message.arguments or {})
        except CommandRefused as error:
            self.refuse(message.method[:100], str(error)[:500])
            value = {"error": str(error)[:500]}
        except CeleryError as error:
            value = {"error": str(error)}
        except Exception as error:  # a command of the user's may raise anything
            logger.exception("the command %s failed", message.method[:100])
            value = {"error": repr(error)[:500]}
        if message.reply_to:
            reply(message, value)

    def refuse(self, what: str, text: str) -> None:
        """Say once, and not with each message, that something was refused."""
        level = logging.DEBUG
        if what not in self._refused and len(self._refused) < 100:
            self._refused.add(what)
            level = logging.ERROR
        logger.log(level, "remote control: %s", text)

    def _reply(self, message: Message, value: Any) -> None:
        body = {"ticket": message.ticket, "reply": {self._worker.hostname: value}}
        try:
            text = msgspec.json.encode(body, enc_hook=str)
            self._worker.app.bus.send(str(message.reply_to), [text])
        except (CeleryError, TypeError, ValueError) as error:
            logger.warning("the reply to %s was not sent: %s", message.method, error)
