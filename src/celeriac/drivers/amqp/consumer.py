"""One worker's hold on some queues, on a connection of its own.

The server pushes what the window (prefetch count) allows; the window is what is held and what the
last claim asked for, so that no more is taken from the others than will be run.  What is lost with a
connection comes again: an envelope that is still held here is adopted under its new tag and not
handed out a second time; one whose end had been said already is acknowledged at once.

Owns: AMQPConsumer.
Thread rule: `claim`, `settle`, `extend`, `wake` each from a thread of its own; `_on_...` in the link's.
May import: kernel, pika, drivers.amqp.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pika.exceptions import ChannelClosedByClient

from celeriac.drivers.amqp import delay
from celeriac.drivers.amqp.buffer import Buffer
from celeriac.drivers.amqp.channel import Outgoing
from celeriac.drivers.amqp.connection import Link
from celeriac.drivers.amqp.frames import Acks
from celeriac.drivers.amqp.message import Incoming, decode
from celeriac.drivers.amqp.reader import Message
from celeriac.drivers.amqp.server import refusal
from celeriac.drivers.amqp.steps import Steps
from celeriac.drivers.amqp.subscriptions import Subscriptions
from celeriac.kernel.errors import BrokerRejected, BrokerUnavailable
from celeriac.kernel.message import Delivery, Envelope, Settlement, Verdict

if TYPE_CHECKING:
    from celeriac.drivers.amqp.broker import AMQPBroker

logger = logging.getLogger("celeriac.amqp")

PROBE = 1.0
"""Seconds to wait for the answer whether more is ready; a safety net."""
ADOPTION = 5.0
"""Seconds after a reconnection in which what is held here may come back to us."""
RECENT = 10_000
"""Messages whose end is remembered, should their acknowledgement be lost."""


class AMQPConsumer:
    """Claims from some queues.

    :param owner: the worker's name, for people (`rabbitmqctl list_connections`).
    """

    def __init__(self, broker: AMQPBroker, queues: Sequence[str], owner: str) -> None:
        self.owner = owner
        self._broker = broker
        self._cond = threading.Condition()
        self._buffer = Buffer()
        self._later: list[tuple[float, int, Incoming, Envelope]] = []
        self._order = itertools.count()
        self._held: dict[str, Delivery] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._untouched: set[str] = set()
        self._epoch = 0
        self._since = 0.0
        self._limit = 0
        self._woken = False
        self._closed = False
        self._trusted: set[int] = set()
        self._channel: Any = None
        self._acks = Acks()
        self._subscriptions = Subscriptions(queues, self._on_messages)
        self._link = Link(
            broker.server.addresses, owner, began=self._on_began, ended=self._on_ended, keep=True
        )

    # -- the connection -------------------------------------------------------------------------

    def _on_began(self, connection: Any) -> None:
        # What it consumes may have gone with the server: made again before anything else.
        steps = Steps(lambda: self._broker.topology.steps(self._subscriptions.queues))
        steps.then = lambda: self._on_declared(connection, steps)
        steps.begin(connection)

    def _on_declared(self, connection: Any, steps: Steps) -> None:
        try:
            steps.outcome()
        except (BrokerRejected, BrokerUnavailable) as error:
            logger.error("%s cannot consume: %s", self.owner, error)
            self._link.refuse(error)
            connection.close()
            return
        # Only now it is known of what type they are: others may have made them.
        self._subscriptions.shared = not self._has_quorum(self._subscriptions.queues)
        connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Any) -> None:
        with self._cond:
            self._epoch += 1
            self._since = time.monotonic()
            self._channel, self._acks = channel, Acks()
            channel.add_on_close_callback(self._on_channel_closed)
            self._subscriptions.begin(channel, self._restart)
        self._link.ready()
        self._adjust()
        with self._cond:
            self._cond.notify_all()

    def _has_quorum(self, queues: Sequence[str]) -> bool:
        return any(self._broker.topology.is_quorum(name) for name in queues)

    def _on_channel_closed(self, channel: Any, error: Exception) -> None:
        connection = channel.connection
        connection.takers.pop(channel.channel_number, None)
        self._lose()
        if self._closed or not connection.is_open:
            return
        reason = refusal(error, self.owner)
        if "timed out" in str(reason):
            logger.warning(
                "%s: the server's consumer_timeout has passed under a running task; it goes on, and "
                "is acknowledged under its new delivery: raise consumer_timeout in rabbitmq.conf "
                "above the longest task",
                self.owner,
            )
        elif not isinstance(error, ChannelClosedByClient):  # that was said when it was closed
            logger.warning("%s: the channel was closed, consuming again: %s", self.owner, reason)
        self._on_began(connection)

    def _restart(self, reason: str) -> None:
        """Begin anew: the server has ended a subscription, so its queue was deleted."""
        logger.warning("%s: %s, declaring and consuming again", self.owner, reason)
        channel = self._channel
        if channel is not None and channel.is_open:
            channel.close()

    def _on_ended(self, error: Exception) -> None:
        self._lose()

    def _lose(self) -> None:
        with self._cond:
            self._channel = None
            self._subscriptions.lose()
            waiting = self._buffer.clear() + [item[2] for item in self._later]
            self._later.clear()
            # Never handed out, so nothing has been lost with them.
            self._untouched = {one.properties.message_id for one in waiting} - {None}
            self._cond.notify_all()

    def _on_messages(self, batch: Sequence[Message]) -> None:
        epoch, queue_of = self._epoch, self._subscriptions.queue_of
        with self._cond:
            if self._channel is None:
                return  # lost meanwhile: they come again
            for tag, number, redelivered, _, properties, body in batch:
                message = Incoming(number, epoch, redelivered, queue_of[tag], properties, body)
                if not redelivered or not self._known(message):
                    self._buffer.push(message)
            self._cond.notify_all()

    def _known(self, message: Incoming) -> bool:
        """Return whether a redelivered message is one that we need not hand out again."""
        mark = message.properties.message_id
        if mark is not None and mark in self._ended:
            del self._ended[mark]
            self._ack([message])
            return True
        held = self._held.get(message.task_id)
        if held is not None:
            receipt = held.receipt
            assert isinstance(receipt, Incoming)
            if receipt.epoch != self._epoch and receipt.properties.message_id == mark:
                held.receipt = message
                logger.info("task %s, which runs here, came back and is kept", message.task_id)
                return True
        if mark in self._untouched:
            self._untouched.discard(mark)
            message.redelivered = False
        return False

    # -- claiming -------------------------------------------------------------------------------

    def claim(self, limit: int, *, wait: float, suspects: int = 1) -> Sequence[Delivery]:
        """Take up to `limit` envelopes of what the server pushes."""
        ends = time.monotonic() + wait
        if not self._link.is_up:
            self._link.up(max(wait, self._broker.server.deadline if not self._epoch else 1.0))
        with self._cond:
            self._limit = limit
            # Who is busy and waits takes what comes, without asking what there is.
            asks = len(self._buffer) < limit and (wait <= 0 or not self._held)
        self._adjust()
        if asks:
            self._probe()
        while True:
            taken = self._take(limit, suspects)
            if taken:
                return taken
            with self._cond:
                left = ends - time.monotonic()
                if self._woken or left <= 0 or self._closed:
                    self._woken = False
                    return []
                if self._channel is None:
                    raise BrokerUnavailable(f"{self.owner} has lost its connection to the broker")
                if self._later:
                    left = min(left, max(0.0, self._later[0][0] - time.time()) + 0.0005)
                if not self._buffer.claimable(suspects, self._held):
                    self._cond.wait(left)

    def _window(self) -> int:
        waiting = len(self._later) + self._buffer.parked(self._held)
        return min(65_000, len(self._held) + self._limit + min(1_000, waiting))

    def _adjust(self) -> None:
        with self._cond:
            window = self._window()
            if not self._limit or not self._subscriptions.wants(window):
                return
        self._link.call(lambda _: self._subscriptions.widen(window))

    def _probe(self) -> None:
        """Wait until what was ready when this was called has been pushed, as far as the window allows."""
        ends = time.monotonic() + PROBE
        while time.monotonic() < ends:
            done = threading.Event()
            before = len(self._buffer)
            self._link.call(functools.partial(self._look, done))
            if not done.wait(PROBE) or self._woken:
                return
            with self._cond:
                outstanding = len(self._held) + len(self._buffer) + len(self._later)
                if not self._subscriptions.ready or outstanding >= self._subscriptions.window:
                    return
                if len(self._buffer) > before:
                    ends = time.monotonic() + PROBE  # they are coming
                else:
                    self._cond.wait(0.002)

    def _look(self, done: threading.Event, _: Any) -> None:
        self._subscriptions.probe(done)

    def _take(self, limit: int, suspects: int) -> list[Delivery]:
        with self._cond:
            now = time.time()
            due: list[tuple[Incoming, Envelope]] = []
            while self._later and self._later[0][0] <= now and len(due) < limit:
                _, _, message, envelope = heapq.heappop(self._later)
                due.append((message, envelope))
            taken = self._buffer.take(limit - len(due), suspects, self._held)
            counted = [
                one
                for one in taken
                if (one.redelivered and not self._counted(one)) or self._is_last(one)
            ]
        if counted:
            self._count_losses(counted)
            taken = [one for one in taken if one not in counted]
        found = due + [(one, decode(one)) for one in taken]
        late = [(m, e) for m, e in found if e.not_before > now]
        if late:
            self._put_off(late, now)
            found = [(m, e) for m, e in found if e.not_before <= now]
        deliveries = []
        with self._cond:
            for message, envelope in found:
                if message.epoch != self._epoch or self._channel is None:
                    continue  # the connection was lost meanwhile: it comes again
                handed_out = 1 + message.losses
                if "x-delivery-count" not in message.headers:
                    handed_out += message.tag in self._trusted
                self._trusted.discard(message.tag)
                delivery = Delivery(envelope, message, math.inf, handed_out)
                self._held[envelope.id] = delivery
                deliveries.append(delivery)
        for delivery in deliveries:
            receipt = delivery.receipt
            assert isinstance(receipt, Incoming)
            if receipt.properties.reply_to:
                self._broker.remember(
                    delivery.envelope.id,
                    receipt.properties.reply_to,
                    receipt.properties.correlation_id or delivery.envelope.id,
                )
        return deliveries

    def _counted(self, message: Incoming) -> bool:
        """Return whether the server itself counts deliveries, as quorum queues do."""
        return "x-delivery-count" in message.headers or message.tag in self._trusted

    def _is_last(self, message: Incoming) -> bool:
        """Return whether the server drops a message if it comes back once more."""
        count = message.headers.get("x-delivery-count")
        if not isinstance(count, int) or message.tag in self._trusted:
            return False
        limit = self._broker.topology.delivery_limit(message.queue)
        return limit is not None and count >= limit

    def _count_losses(self, messages: Sequence[Incoming]) -> None:
        """Write into messages that they have lost a worker: a classic queue only says "redelivered".

        A quorum queue counts, but drops what has reached its `x-delivery-limit`: the engine buries.

        A copy with the count goes to the end of its queue, and the message is acknowledged.
        """
        copies = [
            self._broker.outgoing(
                decode(one), back=True, lost=one.losses + ("x-delivery-count" not in one.headers)
            )
            for one in messages
        ]
        try:
            self._broker.deliver(copies)
        except (BrokerUnavailable, BrokerRejected) as error:
            logger.warning("%d losses are not counted: %s", len(messages), error)
            with self._cond:
                for one in messages:
                    self._trusted.add(one.tag)
                    self._buffer.push(one, suspect=True)
            return
        self._end(messages)

    def _put_off(self, late: Sequence[tuple[Incoming, Envelope]], now: float) -> None:
        """Keep what is due soon; what is due later, which its sender left to us, goes up the ladder."""
        with self._cond:
            soon = [item for item in late if item[1].not_before - now < delay.SHORTEST + 0.5]
            for message, envelope in soon:
                item = (envelope.not_before, next(self._order), message, envelope)
                heapq.heappush(self._later, item)
        later = [item for item in late if item not in soon]
        if later:
            self._broker.deliver(
                [self._broker.outgoing(envelope, back=True) for _, envelope in later]
            )
            self._end([message for message, _ in later])
        self._adjust()

    # -- settling -------------------------------------------------------------------------------

    def settle(self, batch: Sequence[Settlement]) -> Sequence[Delivery]:
        """Publish what goes with the ends, then acknowledge."""
        lost: list[Delivery] = []
        mine: list[Settlement] = []
        with self._cond:
            for settlement in batch:
                delivery = settlement.delivery
                held = self._held.get(delivery.envelope.id)
                if held is not None and held.receipt is delivery.receipt:
                    mine.append(settlement)
                else:
                    lost.append(delivery)
            mine, gone = self._without_orphans(mine)
        lost += gone
        messages = self._messages(mine)
        if messages:
            self._broker.deliver(messages)
        receipts = []
        with self._cond:
            for settlement in mine:
                self._held.pop(settlement.delivery.envelope.id, None)
                receipt = settlement.delivery.receipt
                assert isinstance(receipt, Incoming)
                receipts.append(receipt)
            for delivery in gone:
                self._held.pop(delivery.envelope.id, None)
            if self._buffer.twins:
                self._cond.notify_all()
        self._end(receipts)
        return lost

    def _without_orphans(self, batch: list[Settlement]) -> tuple[list[Settlement], list[Delivery]]:
        """Look at what was claimed over a connection that is no more.

        What is done is done: it is acknowledged when it comes back.  The rest waits for that, and
        is lost where it does not come.
        """
        if all(self._is_current(one.delivery) for one in batch):
            return batch, []
        waits = [
            one
            for one in batch
            if not self._is_current(one.delivery)
            and (one.verdict is not Verdict.ACK or self._mark(one.delivery) is None)
        ]
        if not waits:
            return batch, []
        if self._channel is None or time.monotonic() < self._since + ADOPTION:
            raise BrokerUnavailable("the connection was lost, what it held has not come back yet")
        return [one for one in batch if one not in waits], [one.delivery for one in waits]

    def _is_current(self, delivery: Delivery) -> bool:
        receipt = delivery.receipt
        assert isinstance(receipt, Incoming)
        return receipt.epoch == self._epoch and self._channel is not None

    @staticmethod
    def _mark(delivery: Delivery) -> str | None:
        receipt = delivery.receipt
        assert isinstance(receipt, Incoming)
        mark: str | None = receipt.properties.message_id
        return mark

    def _messages(self, batch: Sequence[Settlement]) -> list[Outgoing]:
        broker, found = self._broker, []
        for settlement in batch:
            delivery, verdict = settlement.delivery, settlement.verdict
            receipt, losses = delivery.receipt, delivery.handed_out - 1
            assert isinstance(receipt, Incoming)
            # What goes back is what came, whatever was done to the envelope meanwhile.
            envelope = delivery.envelope if verdict is Verdict.ACK else decode(receipt)
            if verdict is Verdict.RETRY:
                assert settlement.again is not None, "RETRY without `again`"
                found.append(self._again(delivery, settlement.again))
            elif verdict is Verdict.RELEASE:
                found.append(broker.outgoing(envelope, back=True, lost=losses))
            elif verdict is Verdict.LOST:
                found.append(broker.outgoing(envelope, back=True, lost=losses + 1))
            elif verdict is Verdict.BURY:
                found.append(broker.bury(envelope, settlement.reason, delivery.handed_out))
            found += [broker.outgoing(one, reply_to="") for one in settlement.publish]
        return found

    def _again(self, delivery: Delivery, again: Envelope) -> Outgoing:
        back = again.queue == delivery.envelope.queue
        return self._broker.outgoing(again, back=back)

    def _end(self, messages: Sequence[Incoming]) -> None:
        """Acknowledge in the link's thread; remembered, should the connection be lost before."""
        with self._cond:
            for one in messages:
                mark = one.properties.message_id
                if mark is not None:
                    self._ended[mark] = None
            while len(self._ended) > RECENT:
                self._ended.popitem(last=False)
        self._link.call(lambda _: self._ack(messages))

    def _ack(self, messages: Sequence[Incoming]) -> None:
        channel = self._channel
        if channel is None or not channel.is_open:
            return
        self._acks.write(channel, [one.tag for one in messages if one.epoch == self._epoch])

    def extend(self, held: Sequence[Delivery], *, lease: float) -> Sequence[Delivery]:
        """Return what is held no more; what is held lasts as long as the connection."""
        with self._cond:
            lost = []
            settled_down = self._channel is not None and (time.monotonic() > self._since + ADOPTION)
            for delivery in held:
                found = self._held.get(delivery.envelope.id)
                if found is None or found.receipt is not delivery.receipt:
                    lost.append(delivery)
                elif settled_down and not self._is_current(delivery):
                    # It did not come back to us, so somebody else has it by now.
                    del self._held[delivery.envelope.id]
                    lost.append(delivery)
            return lost

    def holds(self) -> list[str]:
        """Return the queues of what is held, one for each delivery."""
        with self._cond:
            return [delivery.envelope.queue for delivery in self._held.values()]

    def watch(self, queues: Sequence[str]) -> None:
        """Consume these queues from now on."""
        self._broker.topology.declare(queues)
        with self._cond:
            dropped = self._subscriptions.watch(queues)
            back = self._buffer.remove(set(queues))
            back += [item[2] for item in self._later if item[2].queue in dropped]
            self._later = [item for item in self._later if item[2].queue not in dropped]
            heapq.heapify(self._later)
        self._link.call(lambda _: self._renew())
        self._give_back(back)

    def _renew(self) -> None:
        subscriptions = self._subscriptions
        if subscriptions.shared and self._has_quorum(subscriptions.queues):
            subscriptions.part()
        subscriptions.renew()

    def _give_back(self, messages: Sequence[Incoming]) -> None:
        """Put back what was pushed to us and never handed out."""
        if not messages:
            return
        try:
            self._broker.deliver(
                [self._broker.outgoing(decode(m), back=True, lost=m.losses) for m in messages]
            )
        except (BrokerUnavailable, BrokerRejected) as error:
            # They go back with the connection all the same, only marked as redelivered.
            logger.warning("%d messages were not put back one by one: %s", len(messages), error)
            return
        self._end(messages)

    def wake(self) -> None:
        """End a waiting claim."""
        with self._cond:
            self._woken = True
            self._cond.notify_all()

    def close(self) -> None:
        """Give up the hold: what was never handed out is put back, what is held goes back as lost."""
        with self._cond:
            if self._closed:
                return
            self._closed = True
            self._cond.notify_all()
        if self._link.is_up:
            done = threading.Event()
            self._link.call(lambda _: self._subscriptions.stop(done))
            done.wait(1.0)
            with self._cond:
                back = self._buffer.clear() + [item[2] for item in self._later]
                self._later.clear()
            self._give_back(back)
        self._link.close()
        with self._cond:
            self._held.clear()
