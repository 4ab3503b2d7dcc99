"""Results by reply, as Celery's rpc backend: each client has a queue, its workers write into it.

A client keeps what has come for it in memory; a worker knows from a task's message where to send its
states.  What is stored for a task that nobody asked for here is this client's own.

Owns: RpcResults, RpcWatch.
Thread rule: any thread; one connection listens for all who wait.
May import: kernel, ports, drivers.amqp.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Any

from celeriac.drivers.amqp.channel import Outgoing
from celeriac.drivers.amqp.connection import Link
from celeriac.drivers.amqp.server import Server
from celeriac.drivers.amqp.table import Properties
from celeriac.kernel.errors import BackendError, BrokerRejected, ImproperlyConfigured
from celeriac.kernel.message import Group, Part, Ready, Record
from celeriac.kernel.states import READY_STATES
from celeriac.ports.caps import Capabilities

logger = logging.getLogger("celeriac.amqp")

FENCE, STATE, EXPIRES, EMPTY = (
    "x-celeriac-fence",
    "x-celeriac-state",
    "x-celeriac-expires",
    "x-celeriac-no-body",
)
MOST = 100_000
"""Results that a client keeps; the oldest are dropped for more."""
QUEUE_EXPIRES = 86_400_000
"""Milliseconds for which a client's queue outlives its connection."""


class RpcResults:
    """The results that this process waits for, and the way back for those that others do."""

    name = "rpc"

    def __init__(self, server: Server, caps: Capabilities) -> None:
        self.caps = caps
        self._server = server
        self.returns: MutableMapping[str, tuple[str, str]] = {}
        """By task id: where its results go, and under which correlation id."""
        self._reset()

    def _reset(self) -> None:
        self._cond = threading.Condition()
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._start = threading.Lock()
        self._link: Link | None = None
        self._queue = str(uuid.uuid4())

    def open(self) -> None:
        """Listen for replies."""
        self.reply_to()

    def close(self) -> None:
        """Stop listening; what has come stays known."""
        with self._start:
            link, self._link = self._link, None
        if link is not None:
            link.close()

    def after_fork(self) -> None:
        """Begin, in a child, with a queue of its own."""
        self.returns.clear()
        self._reset()

    def reply_to(self) -> str:
        """Return the queue for replies, which exists once this returns.

        :raises BrokerUnavailable: no server answers.
        """
        link = self._link
        if link is None:
            with self._start:
                link = self._link
                if link is None:
                    link = self._link = Link(
                        self._server.addresses,
                        "replies",
                        began=lambda c: c.channel(on_open_callback=self._on_channel),
                        ended=lambda _: None,
                        keep=True,
                    )
        if not link.is_up:
            link.up(self._server.deadline)
        return self._queue

    def _on_channel(self, channel: Any) -> None:
        link = self._link

        def ready(_: Any) -> None:
            if link is not None:
                link.ready()

        def made(_: Any) -> None:
            channel.basic_consume(self._queue, self._on_message, callback=ready)

        def closed(_: Any, error: Exception) -> None:
            if channel.connection.is_open:
                channel.connection.close()

        channel.add_on_close_callback(closed)
        # Durable and expiring, not exclusive: replies wait while the connection is away.
        arguments = {"x-expires": QUEUE_EXPIRES}
        channel.queue_declare(self._queue, durable=True, arguments=arguments, callback=made)

    def _on_message(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        record = read_reply(properties, body)
        if record is not None:
            self._keep([record])
        else:
            logger.warning("a reply could not be read and is dropped")
        channel.basic_ack(method.delivery_tag)

    # -- records --------------------------------------------------------------------------------

    def store(self, batch: Sequence[Record]) -> None:
        """Send each record to who waits for it; keep it here where that is nobody else."""
        replies, own = [], []
        for record in batch:
            way = self.returns.get(record.id)
            if way is None or way[0] == self._queue:
                own.append(record)
            else:
                replies.append(_reply(record, *way))
        if replies:
            self._send(replies)
        if own:
            self._keep(own)

    def _send(self, replies: Sequence[Outgoing]) -> None:
        ticket = self._server.send(replies)
        if ticket.error is not None:
            raise ticket.error
        gone = sum(1 for one in replies if one.unroutable)
        if gone:
            # Its client has left, and its queue with it.
            logger.info("%d results had nobody left to wait for them", gone)
        if any(one.fault and not one.unroutable for one in replies):
            raise BrokerRejected("the server did not take a result: its queue is full")

    def _keep(self, batch: Sequence[Record]) -> None:
        with self._cond:
            for record in batch:
                old = self._records.get(record.id)
                if old is not None and (old.state in READY_STATES or record.fence < old.fence):
                    continue
                self._records[record.id] = replace(record)
            while len(self._records) > MOST:
                self._records.popitem(last=False)
            self._cond.notify_all()

    def fetch(self, ids: Sequence[str]) -> Mapping[str, Record]:
        """Return what has come of `ids`."""
        now = time.time()
        with self._cond:
            return {
                one: replace(record)
                for one in ids
                if (record := self._records.get(one)) is not None and not _expired(record, now)
            }

    def watch(self) -> RpcWatch:
        """Return a new watch."""
        return RpcWatch(self._cond, self._records)

    def forget(self, ids: Sequence[str]) -> None:
        """Drop records."""
        with self._cond:
            for one in ids:
                self._records.pop(one, None)

    def expire(self, before: float, *, limit: int) -> int:
        """Drop what expired."""
        with self._cond:
            old = [one for one, record in self._records.items() if _expired(record, before)]
            for one in old[:limit]:
                del self._records[one]
            return min(limit, len(old))

    # -- groups: the parts of a chord come to different places, so nobody could count them ---------

    def open_group(self, group: Group) -> None:
        """Refuse.

        :raises ImproperlyConfigured: always; it says what to change.
        """
        raise ImproperlyConfigured(
            "rpc:// cannot count the parts of a chord: set result_backend to a store that all workers "
            "share, such as redis://"
        )

    def close_parts(self, parts: Sequence[Part]) -> Sequence[Ready]:
        """Refuse parts, as `open_group`.

        :raises BackendError: there are any.
        """
        if parts:
            raise BackendError("rpc:// cannot count the parts of a chord")
        return []

    def parts(self, group: str) -> Sequence[Record]:
        """Return nothing: no group can be opened."""
        return []

    def mark_sent(self, groups: Sequence[str]) -> None:
        """Do nothing: no group can be opened."""


def _expired(record: Record, now: float) -> bool:
    return 0 < record.expires_at <= now


class RpcWatch:
    """One waiter."""

    def __init__(self, cond: threading.Condition, records: Mapping[str, Record]) -> None:
        self._cond, self._records = cond, records
        self._ids: set[str] = set()
        self._added = self._closed = False

    def add(self, ids: Sequence[str]) -> None:
        """Watch these too."""
        with self._cond:
            self._ids.update(ids)
            self._added = True
            self._cond.notify_all()

    def discard(self, ids: Sequence[str]) -> None:
        """Watch these no longer."""
        with self._cond:
            self._ids.difference_update(ids)

    def poll(self, wait: float) -> Mapping[str, Record]:
        """Block until a watched id is final, the time is over, or `add` was called."""
        ends = time.monotonic() + wait
        with self._cond:
            while True:
                now = time.time()
                ids = self._ids if len(self._ids) < len(self._records) else self._records
                found = {
                    one: replace(record)
                    for one in ids
                    if one in self._ids
                    and (record := self._records.get(one)) is not None
                    and record.state in READY_STATES
                    and not _expired(record, now)
                }
                left = ends - time.monotonic()
                if found or left <= 0 or self._added or self._closed:
                    self._added = False
                    self._ids.difference_update(found)
                    return found
                self._cond.wait(left)

    def close(self) -> None:
        """End the watch."""
        with self._cond:
            self._closed = True
            self._cond.notify_all()


def _reply(record: Record, reply_to: str, correlation_id: str) -> Outgoing:
    """Return the message of a record: Celery's, with what its body does not say beside it."""
    headers: dict[str, Any] = {
        STATE: record.state,
        FENCE: f"{record.fence[0]} {record.fence[1]}",
        EXPIRES: repr(record.expires_at),
    }
    if record.body is None:
        headers[EMPTY] = True
    known = {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "delivery_mode": 1,
        "correlation_id": correlation_id,
    }
    return Outgoing("", reply_to, Properties.of(headers, known), record.body or b"")


def read_reply(properties: Any, body: bytes) -> Record | None:
    """Return the record of a reply, ours or Celery's; None of what is neither."""
    headers = properties.headers or {}
    task_id = properties.correlation_id
    try:
        if STATE in headers:
            attempt, handed_out = str(headers[FENCE]).split()
            return Record(
                str(task_id),
                str(headers[STATE]),
                None if headers.get(EMPTY) else body,
                (int(attempt), int(handed_out)),
                float(headers[EXPIRES]),
            )
        meta = json.loads(body)
        return Record(str(meta.get("task_id") or task_id), str(meta["status"]), body)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
