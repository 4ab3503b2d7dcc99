"""Standing orders on RabbitMQ: two streams, which every reader reads from their beginning.

A stream keeps what was read, so an order reaches workers that start later and outlives them all.
Pauses, which stand until they are taken back, have a stream of their own: the many revocations,
which end after hours, must not push them out.

Owns: AMQPOrders.
Thread rule: any thread; the reader has a connection of its own.
May import: kernel, ports, drivers.amqp.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

import msgspec

from celeriac.drivers.amqp.channel import Outgoing
from celeriac.drivers.amqp.connection import Link
from celeriac.drivers.amqp.server import Server
from celeriac.drivers.amqp.steps import Refused, Step
from celeriac.drivers.amqp.table import Properties
from celeriac.kernel.errors import BrokerRejected, BrokerUnavailable
from celeriac.kernel.ids import uuid
from celeriac.ports.orders import KEPT, Order

logger = logging.getLogger("celeriac.amqp")

PAUSES, OTHERS = "celeriac.orders.pauses", "celeriac.orders"
MOST_BYTES = 100_000_000
"""Of one stream on disk; the oldest go for more."""
SEGMENT = 5_000_000
"""Bytes in which a stream forgets."""
TOGETHER = 500
"""Orders in one message."""
AHEAD = 200
"""Messages that the server sends before they are acknowledged."""
NOT_FOUND = 404
ALMOST = 1.0
"""Seconds that a giver waits until its own reader has seen what it gave."""

_KNOWN = {"content_type": "application/json", "delivery_mode": 2}


_Said = tuple[str, str, str, float, int]
"""Kind, key, value, end, and place in what was given with it."""


class _Batch(msgspec.Struct):
    orders: list[_Said]
    token: str
    at: float
    """When it was given: the streams are read side by side."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Batch)


class _Away(BrokerRejected):
    """The server is there, and the streams are not: what else is asked of it works."""


class AMQPOrders:
    """The orders of one vhost."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.after_fork()

    def after_fork(self) -> None:
        """Forget, in a child, what belongs to its parent."""
        self._lock = threading.Lock()
        self._reader: _Reader | None = None
        self._epoch = 0
        self._refused = ""

    def give(self, orders: Sequence[Order]) -> None:
        """Write orders."""
        said: dict[str, list[_Said]] = {}
        now = time.time()
        for place, one in enumerate(orders):
            stream = PAUSES if one.kind == "pause" else OTHERS
            said.setdefault(stream, []).append(
                (one.kind, one.key, one.value, one.expires_at, place)
            )
        self._declare()
        reader = self._reader
        tokens: list[str] = []
        messages = []
        for stream, found in said.items():
            for start in range(0, len(found), TOGETHER):
                tokens.append(uuid())
                batch = _Batch(found[start : start + TOGETHER], tokens[-1], now)
                messages.append(_message(stream, batch))
        if reader is not None:
            reader.expect(tokens)
        self._server.publish(messages)
        if reader is not None:
            reader.wait_for(tokens, ALMOST)

    def since(self, mark: int) -> tuple[int, Sequence[Order]]:
        """Return what was given after `mark`."""
        with self._lock:
            reader = self._reader
            if reader is None:
                self._declare()
                reader = self._begin()
        return reader.since(mark)

    def _begin(self) -> _Reader:
        """Return a reader that has read all that was given before."""
        reader = _Reader(self._server)
        try:
            reader.listen()
            # What a stream holds cannot be asked: what was written before this is read before it.
            tokens = [uuid(), uuid()]
            reader.expect(tokens)
            ends = [
                _message(stream, _Batch([], token, 0.0))
                for stream, token in zip((PAUSES, OTHERS), tokens, strict=True)
            ]
            self._server.publish(ends)
            if not reader.wait_for(tokens, self._server.deadline):
                raise BrokerUnavailable(
                    f"the standing orders were not read within {self._server.deadline:.0f} s"
                )
        except BaseException:
            reader.close()
            raise
        self._reader = reader
        return reader

    def _declare(self) -> None:
        if self._refused:
            raise BrokerRejected(self._refused)
        self._server.link()
        if self._epoch == self._server.epoch:
            return
        try:
            self._server.ask(_declared)
        except _Away:
            raise
        except BrokerRejected as error:
            self._refused = f"this server keeps no standing orders, as they need streams (RabbitMQ 3.9): {error}"
            raise BrokerRejected(self._refused) from error
        self._epoch = self._server.epoch

    def close(self) -> None:
        """Close the reader's connection."""
        with self._lock:
            reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()


def _message(stream: str, batch: _Batch) -> Outgoing:
    return Outgoing("", stream, Properties.of({}, _KNOWN), _encoder.encode(batch))


def _arguments(stream: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "x-queue-type": "stream",
        "x-max-length-bytes": MOST_BYTES,
        "x-stream-max-segment-size-bytes": SEGMENT,
    }
    if stream == OTHERS:
        found["x-max-age"] = "1D"
    return found


def _declared() -> Generator[Step, Any, None]:
    for stream in (PAUSES, OTHERS):
        try:
            yield _declaration(stream)
        except Refused as refused:
            if refused.code == NOT_FOUND:  # its node is not up yet
                raise _Away(f"the standing orders are away: {refused}") from refused
            if "inequivalent" not in refused.text:
                raise
            # It is there in another way: whoever made it knows better.


def _declaration(stream: str) -> Step:
    def declare(channel: Any, answer: Callable[[Any], None]) -> None:
        channel.queue_declare(stream, durable=True, arguments=_arguments(stream), callback=answer)

    return declare


_Kept = tuple[int, tuple[float, int], Order]
"""Its number here, its place in the order of all, and the order."""


class _Reader:
    """Reads both streams, from their beginning and on, for as long as it is open."""

    def __init__(self, server: Server) -> None:
        self._cond = threading.Condition()
        self._seq = 0
        self._orders: dict[tuple[str, str], _Kept] = {}
        self._expected: set[str] = set()
        self._offsets: dict[str, int] = {}
        self._deadline = server.deadline
        self._closed = False
        self._link = Link(
            server.addresses, "orders", began=self._on_began, ended=lambda _: None, keep=True
        )

    def listen(self) -> None:
        """Return once the streams are read.

        :raises BrokerUnavailable: no server answers.
        """
        self._link.up(self._deadline)

    def _on_began(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Any) -> None:
        def consume(stream: str, then: Callable[[Any], None]) -> None:
            def one(_: Any, method: Any, properties: Any, body: bytes) -> None:
                offset = (properties.headers or {}).get("x-stream-offset")
                channel.basic_ack(method.delivery_tag)
                self._take(stream, offset, body)

            last = self._offsets.get(stream)
            begin = "first" if last is None else last + 1
            arguments = {"x-stream-offset": begin}
            channel.basic_consume(stream, one, arguments=arguments, callback=then)

        def limited(_: Any) -> None:
            consume(PAUSES, lambda _: consume(OTHERS, lambda _: self._link.ready()))

        channel.add_on_close_callback(self._on_closed)
        channel.basic_qos(prefetch_count=AHEAD, callback=limited)

    def _on_closed(self, channel: Any, error: Exception) -> None:
        if not self._closed and channel.connection.is_open:
            channel.connection.close()

    def _take(self, stream: str, offset: Any, body: bytes) -> None:
        try:
            batch = _decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            logger.warning("a message in %s is no order, and is passed over: %s", stream, error)
            batch = _Batch([], "", 0.0)
        with self._cond:
            if isinstance(offset, int):
                if offset <= self._offsets.get(stream, -1):
                    return
                self._offsets[stream] = offset
            for kind, key, value, expires_at, place in batch.orders:
                self._seq += 1
                self._orders.pop((kind, key), None)
                order = Order(kind, key, value, expires_at)
                self._orders[kind, key] = self._seq, (batch.at, place), order
            if len(self._orders) > KEPT * 1.1:
                self._make_room()
            self._expected.discard(batch.token)
            self._cond.notify_all()

    def _make_room(self) -> None:
        now = time.time()
        ending = [order for _, _, order in self._orders.values() if order.expires_at]
        ending.sort(key=lambda order: order.expires_at)
        left = len(ending)
        for order in ending:
            if order.expires_at > now and left <= KEPT:
                break
            del self._orders[order.kind, order.key]
            left -= 1

    def expect(self, tokens: Sequence[str]) -> None:
        """Look out for messages."""
        with self._cond:
            self._expected.update(tokens)

    def wait_for(self, tokens: Sequence[str], seconds: float) -> bool:
        """Return whether messages that were looked out for were read within some seconds."""
        with self._cond:
            found = self._cond.wait_for(lambda: self._expected.isdisjoint(tokens), seconds)
            self._expected.difference_update(tokens)
            return found

    def since(self, mark: int) -> tuple[int, Sequence[Order]]:
        """Return what was read after `mark`."""
        with self._cond:
            if mark == self._seq:
                return mark, ()
            self._make_room()
            now = time.time()
            found = [
                (at, seq, order)
                for seq, at, order in self._orders.values()
                if seq > mark and not 0 < order.expires_at <= now
            ]
            found.sort(key=lambda one: one[:2])
            return self._seq, [order for _, _, order in found]

    def close(self) -> None:
        """Stop reading."""
        self._closed = True
        self._link.close()
