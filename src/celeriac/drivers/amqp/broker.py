"""Queues on RabbitMQ.

Owns: AMQPBroker, capabilities.
Thread rule: every method may be called from any thread.
May import: kernel, ports, drivers.amqp.
"""

from __future__ import annotations

import itertools
import logging
import time
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from pika.spec import Basic

from celeriac.drivers.amqp import delay
from celeriac.drivers.amqp.channel import Outgoing, Ticket, verdict
from celeriac.drivers.amqp.consumer import AMQPConsumer
from celeriac.drivers.amqp.message import AT, LOST, QUEUE, REASON, Incoming, decode, encode
from celeriac.drivers.amqp.server import Server
from celeriac.drivers.amqp.steps import Refused, Step
from celeriac.drivers.amqp.topology import NOT_FOUND, Topology, dead_queue, passive_step
from celeriac.kernel.entities import Queue
from celeriac.kernel.errors import BrokerRejected, BrokerUnavailable, CapabilityMissing, WireError
from celeriac.kernel.message import Buried, Envelope, QueueCount
from celeriac.kernel.wire import unpack
from celeriac.ports.caps import Capabilities

logger = logging.getLogger("celeriac.amqp")

MAX_BODY = 128 * 1024 * 1024
"""Bytes; RabbitMQ's own limit."""
RETURNS = 100_000
"""Tasks whose address for results is remembered."""


def capabilities(max_priority: int | None, holds_for: float | None = None) -> Capabilities:
    """Return what RabbitMQ does by itself.

    :param max_priority: of new queues.
    :param holds_for: seconds of the server's `consumer_timeout`.
    """
    return Capabilities(
        lease="connection",
        delay="ladder",
        priorities=1 + (max_priority or 0),
        counts_deliveries=True,
        dedupes_ids=False,
        withdraws=False,
        peeks=False,
        settles_with=frozenset(),
        joins=False,
        wakes=True,
        max_body=MAX_BODY,
        counts="ready",
        keeps_place=False,
        counts_groups=False,
        exchanges=True,
        holds_for=holds_for,
    )


class AMQPBroker:
    """Queues of one vhost.

    :param reply_to: returns the queue to which results of what is sent here go; None for none.
    """

    def __init__(
        self,
        server: Server,
        topology: Topology,
        caps: Capabilities,
        reply_to: Callable[[], str | None],
    ) -> None:
        self.caps = caps
        self.server, self.topology = server, topology
        self._reply_to = reply_to
        self._consumers: weakref.WeakSet[AMQPConsumer] = weakref.WeakSet()
        self._mark = uuid.uuid4().hex[:12]
        self._numbers = itertools.count(1)
        self.returns: OrderedDict[str, tuple[str, str]] = OrderedDict()
        """By task id: where a held task's results go, and under which correlation id."""

    def open(self) -> None:
        """Connect and check."""
        self.server.link()

    def close(self) -> None:
        """Let go of every connection."""
        for consumer in list(self._consumers):
            consumer.close()
        self.server.close()

    def declare(self, queues: Sequence[str]) -> None:
        """Make queues, with the exchanges and bindings that the settings give them."""
        self.topology.declare(queues)

    def describe(self, queue: Queue) -> None:
        """Declare a queue as it says from now on."""
        self.topology.describe(queue)

    # -- publishing -----------------------------------------------------------------------------

    def publish(self, batch: Sequence[Envelope]) -> None:
        """Return once every envelope is confirmed."""
        if batch:
            reply_to = self._reply_to()
            self.deliver([self.outgoing(envelope, reply_to=reply_to) for envelope in batch])

    def begin(self, batch: Sequence[Envelope]) -> Callable[[], None]:
        """Send a batch; what is returned waits until it is confirmed."""
        reply_to = self._reply_to()
        messages = [self.outgoing(envelope, reply_to=reply_to) for envelope in batch]
        self._prepare(messages)
        ticket = self.server.begin(messages)
        return lambda: self._finish(messages, ticket)

    def outgoing(
        self, envelope: Envelope, *, reply_to: str | None = None, back: bool = False, lost: int = 0
    ) -> Outgoing:
        """Return the message of an envelope.

        :param back: it was in its queue already: past the exchange, to that queue alone.
        :param lost: workers that it has lost.
        """
        if reply_to is not None and self.returns:
            reply_to = self._inherited(envelope, reply_to)
        properties, body = encode(envelope, lost=lost, reply_to=reply_to, mark=self.mark())
        queue = envelope.queue
        if envelope.not_before:
            left = envelope.not_before - time.time()
            if left >= delay.SHORTEST:
                through, key = ("", queue) if back else self._way(envelope)
                if not through or (through == queue and key == queue):
                    first, way = delay.route(left, queue)
                    return Outgoing(first, way, properties, body, queue=queue)
                self.topology.declare_through(through)
                first, way = delay.route(left, f"{through}.{key}")
                return Outgoing(first, way, properties, body)
        exchange, key = ("", queue) if back else self._way(envelope)
        if len(key.encode()) > 255 or len(exchange.encode()) > 255:
            raise BrokerRejected(f"task {envelope.id}: {key!r:.60} is longer than 255 bytes")
        if exchange and self.topology.spec(queue) is None:
            queue = ""  # its sender named an exchange: where that leads is no matter of ours
        return Outgoing(exchange, key, properties, body, queue=queue)

    def mark(self) -> str:
        """Return what tells one message from every other."""
        return f"{self._mark}-{next(self._numbers):x}"

    def _inherited(self, envelope: Envelope, reply_to: str) -> str:
        """Return where the results of a follow-up go: to who waits for the task that it follows."""
        try:
            head, _ = unpack(envelope.body)
        except WireError:
            return reply_to
        found = self.returns.get(head.parent_id or "") or self.returns.get(head.root_id or "")
        return found[0] if found else reply_to

    def _way(self, envelope: Envelope) -> tuple[str, str]:
        """Return the exchange and the routing key that lead to an envelope's queue."""
        spec = self.topology.spec(envelope.queue)
        asks = b'"exchange":' in envelope.body[:4096] or b'"routing_key":' in envelope.body[:4096]
        if not asks and (spec is None or spec.exchange_type == "direct"):
            return "", envelope.queue
        try:
            head, _ = unpack(envelope.body)
        except WireError:
            return "", envelope.queue
        if spec is not None and spec.exchange_type != "direct":
            exchange, key = spec.way
            return head.exchange or exchange, head.routing_key or key
        if head.exchange:
            return head.exchange, head.routing_key or envelope.queue
        return "", envelope.queue

    def deliver(self, messages: Sequence[Outgoing]) -> None:
        """Publish messages, having made what they need."""
        if messages:
            self._prepare(messages)
            self._finish(messages, self.server.begin(messages))

    def _finish(self, messages: Sequence[Outgoing], ticket: Ticket) -> None:
        self.server.wait(ticket)
        missing = [one for one in messages if one.unroutable and one.queue and not ticket.error]
        if missing:
            # Somebody deleted a queue since it was declared here.
            self.topology.forget({n for one in missing for n in (one.queue, f"delay {one.queue}")})
            for one in missing:
                one.fault, one.unroutable = "", False
            self._prepare(missing)
            again = self.server.send(missing)
            if ticket.error is None:
                ticket.error = again.error
        if ticket.error is None:
            for one in messages:
                if one.fault and not one.unroutable and not self.topology.has_limit(one.queue):
                    # Not because it is full: nodes are away, and what is left is no majority.
                    raise BrokerUnavailable(
                        f"queue {one.queue!r} takes no messages for now: nodes of its cluster are "
                        "away, or a policy limits its length"
                    )
        verdict(ticket)

    def _prepare(self, messages: Sequence[Outgoing]) -> None:
        names = {one.queue: None for one in messages if one.queue}
        for exchange in {one.exchange for one in messages if not one.queue}:
            names.update(dict.fromkeys(self.topology.bound_to(exchange)))
        self.topology.declare(names)
        late = {
            one.queue: None
            for one in messages
            if one.queue and one.exchange.startswith("celery_delayed_")
        }
        if late:
            self.topology.declare_ladder(late)

    # -- consuming ------------------------------------------------------------------------------

    def consume(self, queues: Sequence[str], *, owner: str, lease: float) -> AMQPConsumer:
        """Return a consumer, on a connection of its own."""
        self.topology.declare(queues)
        quorum = [name for name in queues if self.topology.is_quorum(name)]
        if quorum:
            self.topology.declare_ladder(quorum)
        consumer = AMQPConsumer(self, queues, owner)
        self._consumers.add(consumer)
        return consumer

    def withdraw(self, ids: Sequence[str]) -> Sequence[str]:
        """Take nothing back: AMQP has no way to a message but through the front."""
        return []

    def peek(self, queue: str, *, limit: int, after: str | None = None) -> Sequence[Envelope]:
        """Refuse: looking into a queue would take its messages out of their order.

        :raises CapabilityMissing: always.
        """
        raise CapabilityMissing(
            "RabbitMQ's queues cannot be listed without disturbing them: use `count`"
        )

    def count(self, queues: Sequence[str]) -> Mapping[str, QueueCount]:
        """Return what is ready, and what consumers of this process hold."""
        names = list(dict.fromkeys(queues)) or list(self.topology.known)
        held: dict[str, int] = {}
        for consumer in list(self._consumers):
            for name in consumer.holds():
                held[name] = held.get(name, 0) + 1

        def steps() -> Generator[Step, Any, dict[str, QueueCount]]:
            found = {}
            for name in names:
                try:
                    answer = yield passive_step(name)
                    ready = answer.method.message_count
                except Refused as refused:
                    if refused.code != NOT_FOUND:
                        raise
                    ready = 0
                found[name] = QueueCount(ready=ready, held=held.get(name, 0))
            return found

        counts: dict[str, QueueCount] = self.server.ask(steps)
        return counts

    def purge(self, queue: str) -> int:
        """Drop what is ready; what is delayed lies in the ladder, among that of other queues."""

        def steps() -> Generator[Step, Any, int]:
            try:
                answer = yield lambda channel, done: channel.queue_purge(queue, callback=done)
            except Refused as refused:
                if refused.code != NOT_FOUND:
                    raise
                return 0
            return int(answer.method.message_count)

        gone: int = self.server.ask(steps)
        return gone

    # -- what was buried ------------------------------------------------------------------------

    def bury(self, envelope: Envelope, reason: str, handed_out: int) -> Outgoing:
        """Return the message that lays an envelope into the queue for what was buried."""
        self.topology.declare_dead([envelope.queue])
        extra = {REASON: reason, AT: repr(time.time()), QUEUE: envelope.queue}
        properties, body = encode(envelope, lost=handed_out - 1, extra=extra, mark=self.mark())
        name = dead_queue(envelope.queue)
        return Outgoing("", name, properties, body, queue=envelope.queue)

    def buried(self, *, limit: int, after: str | None = None) -> Sequence[Buried]:
        """List what was buried from the queues that are known here, the oldest first."""
        found = sorted(self.server.ask(lambda: self._dig(lambda _: False)), key=lambda one: one.at)
        ids = [one.envelope.id for one in found]
        start = ids.index(after) + 1 if after in ids else 0
        return found[start : start + limit]

    def requeue(self, ids: Sequence[str]) -> Sequence[str]:
        """Put buried envelopes back into their queues."""
        return self._exhume(ids, publish=True)

    def drop(self, ids: Sequence[str]) -> Sequence[str]:
        """Delete buried envelopes."""
        return self._exhume(ids, publish=False)

    def _exhume(self, ids: Sequence[str], *, publish: bool) -> Sequence[str]:
        wanted = set(ids)
        if not wanted:
            return []
        if publish:
            found = [
                one
                for one in self.server.ask(lambda: self._dig(lambda _: False))
                if one.envelope.id in wanted
            ]
            # First back into the queue, then out of the grave: a crash between leaves both.
            self.deliver([self.outgoing(one.envelope, back=True) for one in found])
        taken = self.server.ask(lambda: self._dig(lambda one: one.envelope.id in wanted))
        gone = {one.envelope.id for one in taken if one.envelope.id in wanted}
        return [one for one in ids if one in gone]

    def _dig(self, take: Callable[[Buried], bool]) -> Generator[Step, Any, list[Buried]]:
        """Read all that was buried; what `take` says is taken out, the rest stays in its order."""
        found: list[Buried] = []
        for queue in list(self.topology.known):
            name = dead_queue(queue)
            try:
                answer = yield passive_step(name)
            except Refused as refused:
                if refused.code != NOT_FOUND:
                    raise
                continue
            for _ in range(answer.method.message_count):
                got = yield _get_step(name)
                if got is None:
                    break
                method, properties, body = got
                one = _read(Incoming(0, 0, False, queue, properties, body))
                found.append(one)
                if take(one):
                    yield _ack_step(method.delivery_tag)
            yield _back_step
        return found

    def upkeep(self, now: float) -> None:
        """Do nothing: the broker returns what a lost connection held, and time passes in the ladder."""

    def after_fork(self) -> None:
        """Forget, in a child, what belongs to its parent."""
        self._consumers = weakref.WeakSet()
        self._mark = uuid.uuid4().hex[:12]
        self.returns.clear()

    def remember(self, task_id: str, reply_to: str, correlation_id: str) -> None:
        """Note where the results of a task that was claimed go."""
        self.returns[task_id] = reply_to, correlation_id
        if len(self.returns) > RETURNS:
            self.returns.popitem(last=False)


def _read(message: Incoming) -> Buried:
    headers = message.headers
    try:
        at = float(headers.get(AT) or 0.0)
    except (TypeError, ValueError):
        at = 0.0
    lost = headers.get(LOST)
    handed_out = 1 + (lost if isinstance(lost, int) else 0)
    return Buried(decode(message), str(headers.get(REASON) or ""), at, handed_out)


def _get_step(queue: str) -> Step:
    def step(channel: Any, answer: Callable[[Any], None]) -> None:
        def empty(_: Any) -> None:
            answer(None)

        def got(_: Any, method: Any, properties: Any, body: bytes) -> None:
            channel.callbacks.remove(channel.channel_number, Basic.GetEmpty, empty)
            answer((method, properties, body))

        channel.add_callback(empty, [Basic.GetEmpty], one_shot=True)
        channel.basic_get(queue, got)

    return step


def _back_step(channel: Any, answer: Callable[[Any], None]) -> None:
    """Give back all that was read and not taken out."""
    channel.basic_nack(0, multiple=True, requeue=True)
    channel.basic_qos(prefetch_count=0, callback=answer)


def _ack_step(tag: int) -> Step:
    def step(channel: Any, answer: Callable[[Any], None]) -> None:
        channel.basic_ack(tag)
        # A question behind it: its answer says that the acknowledgement has arrived.
        channel.basic_qos(prefetch_count=0, callback=answer)

    return step
