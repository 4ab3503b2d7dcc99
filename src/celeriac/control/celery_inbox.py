"""A worker's second ear, for Celery's own clients: `celery inspect`, `celery control`, Flower.

What is heard there is carried out by the same inbox as celeriac's own commands.

Owns: CeleryInbox.  Thread rule: one thread.  May import: kernel, ports, client, control.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from celeriac.control.inbox import AWAY, LARGEST, WAIT, Inbox, Message
from celeriac.kernel.celery_pidbox import command, reply
from celeriac.kernel.errors import CeleryError, WireError
from celeriac.kernel.ids import uuid

logger = logging.getLogger("celeriac.control")


class CeleryInbox:
    """Listens where Celery's clients speak.

    :param inbox: carries out what is heard.
    :param mailbox: the driver's.
    """

    def __init__(self, inbox: Inbox, worker: Any, mailbox: Any) -> None:
        self._inbox, self._worker, self._mailbox = inbox, worker, mailbox
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="celeriac-pidbox", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        if not self._stopping.is_set() and self._thread.ident is None:
            self._mailbox.listen()
            self._thread.start()

    def stop(self) -> None:
        """Ask it to end."""
        self._stopping.set()
        self._mailbox.wake()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has ended."""
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        away = False
        try:
            while not self._stopping.is_set():
                try:
                    frames = self._mailbox.poll(WAIT)
                except CeleryError as error:
                    # celeriac's own ear says it, where both are deaf.
                    level = logging.DEBUG if away else logging.INFO
                    logger.log(level, "Celery's remote control is not heard for a while: %s", error)
                    away = True
                    self._stopping.wait(AWAY)
                    continue
                away = False
                for frame in frames:
                    self._take(frame)
        finally:
            self._mailbox.close()

    def _take(self, frame: bytes) -> None:
        if len(frame) > 2 * LARGEST:
            self._inbox.refuse("size", f"a control message of {len(frame):,} bytes was dropped")
            return
        try:
            body, expires = command(frame)
        except WireError as error:
            self._inbox.refuse("form", str(error))
            return
        self._inbox.take(body, self._reply, expires=expires, before=self._keep)

    def _keep(self, message: Message) -> None:
        """Leave a revocation standing, as celeriac's own client does before it says it."""
        ids = (message.arguments or {}).get("task_id")
        if message.method in ("revoke", "terminate") and not (
            message.destination or message.pattern
        ):
            ids = [ids] if isinstance(ids, str) else ids
            if isinstance(ids, list) and all(isinstance(one, str) for one in ids):
                self._worker.app.control.keep_revoked(ids[:10_000])

    def _reply(self, message: Message, value: Any) -> None:
        where = message.reply_to if isinstance(message.reply_to, dict) else {}
        exchange, key = str(where.get("exchange")), str(where.get("routing_key"))
        try:
            said = {self._worker.hostname: value}
            frame = reply(
                said, ticket=message.ticket, exchange=exchange, routing_key=key, tag=uuid()
            )
            self._mailbox.answer(exchange, key, frame)
        except (CeleryError, TypeError, ValueError) as error:
            logger.warning("the reply to %s was not sent: %s", message.method, error)


def celery_inbox(inbox: Inbox, worker: Any) -> CeleryInbox | None:
    """Return the second ear, where the broker can speak to Celery's clients and may."""
    app = worker.app
    find: Callable[[], Any] | None = getattr(app.family(app.broker_url), "celery_mailbox", None)
    if find is None or app.conf.get("worker_celery_bus") is False:
        return None
    return CeleryInbox(inbox, worker, find())
