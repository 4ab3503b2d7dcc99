"""One worker's hold on some queues: what it has is one hash on the server, its lease one score.

Owns: RedisConsumer.  Thread rule: see `ports.broker`.  May import: kernel, ports, drivers.redis.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from celeriac.drivers.redis.bell import Bell
from celeriac.drivers.redis.celery_lists import CeleryLists, Tag
from celeriac.drivers.redis.connection import LoginRefused, Server
from celeriac.drivers.redis.fields import fields
from celeriac.drivers.redis.keys import Keys
from celeriac.drivers.redis.message import burial_head, unpack
from celeriac.drivers.redis.records import part_fields, record_fields
from celeriac.drivers.redis.script import CLAIM, EXTEND, GIVE_BACK, REFETCH, SETTLE
from celeriac.kernel.errors import BrokerRejected, BrokerUnavailable
from celeriac.kernel.message import Delivery, Settlement, Verdict

logger = logging.getLogger("celeriac.redis")

_LETTERS = {
    Verdict.ACK: "A",
    Verdict.RETRY: "A",  # the new attempt is a follow-up of the same id
    Verdict.RELEASE: "L",
    Verdict.LOST: "X",
    Verdict.BURY: "B",
}
logger = logging.getLogger("celeriac.worker")

MOST = 10_000
"""Messages in one claim."""
LARGEST = 256_000_000
"""Bytes of outcomes in one command; Redis buffers 1 GB of a client's."""
TOKEN = 16
"""Characters of a token."""
REFUSED = 30.0
"""Seconds until Celery's lists are looked at again after the server refused."""
LOOK = 1.0
"""Seconds between looks at Celery's lists of queues that Celery does not know."""


class RedisConsumer:
    """One worker's hold.

    :param owner: the worker's name, which people see in the keys.
    """

    def __init__(
        self, server: Server, keys: Keys, queues: Sequence[str], *, owner: str, lease: float
    ) -> None:
        self._server, self._keys, self._lease = server, keys, lease
        # Another one for each consumer: a worker of the same name must not take over its leases.
        self._holder = f"{owner}/{secrets.token_hex(6)}"
        self._celery: CeleryLists | None = None
        """What takes from a Celery fleet's lists of the same queues."""
        if keys.celery is not None:
            self._celery = CeleryLists(server, keys, keys.celery, holder=self._holder, lease=lease)
        self._look_at = 0.0
        """`time.monotonic()` at which Celery's lists are looked at in any case."""
        self._bell = Bell(server)
        self._wanted = self._watched = tuple(queues)
        self._queues = self._watched
        """What is watched, the next one to be asked first."""
        self._bell.listen(self._bells())
        self._closed = False
        self._unsure = ""
        """The token of a claim whose reply was lost."""
        self._in_flight = ""
        """The token of a claim that the server is asked for just now."""
        self._handing = threading.Lock()
        """Held while what was taken for a stray is asked for again, or given back."""
        self._maybe: dict[str, float] = {}
        """Tokens and ids of settlements whose reply was lost, and when their leases end."""
        self._ending: set[tuple[str, str]] = set()
        """Tokens and ids that are being settled now."""
        self._strays: frozenset[tuple[str, str]] = frozenset()
        """Tokens and ids that this holder had, and nobody knew of, at the last renewal."""
        self._due = 0.0
        """`time.monotonic()` at which something becomes due."""
        self._suspects = 0
        """Suspects that the last claim, which found nothing, would have taken."""
        self._woken = False
        self._celery_first = False

    def _bells(self) -> list[str]:
        return [self._keys.bells + queue for queue in self._queues]

    def watch(self, queues: Sequence[str]) -> None:
        """Consume these queues from the next claim on."""
        self._wanted = tuple(queues)
        self.wake()

    def wake(self) -> None:
        """End a waiting claim."""
        self._woken = True
        self._bell.wake()

    # -- claiming -------------------------------------------------------------------------------

    def claim(self, limit: int, *, wait: float, suspects: int = 1) -> Sequence[Delivery]:
        """Take envelopes under this holder's lease."""
        ends = time.monotonic() + wait
        while True:
            wanted = self._wanted
            if wanted is not self._watched:
                self._watched = self._queues = wanted
                self._bell.listen(self._bells())
            if limit <= 0 or not self._queues:
                return ()
            if self._should_look(suspects):
                batch = self._take_both(min(limit, MOST), suspects)
                if batch:
                    if len(batch) >= limit:
                        self._pass_on()
                    return batch
                self._suspects = suspects
            left = ends - time.monotonic()
            if left <= 0 or self._closed or self._woken:
                self._woken = False
                return ()
            with _mendable():
                self._bell.ask()
            left = min(left, max(0.0, self._next() - time.monotonic()))
            if self._bell.wait(left)[1]:
                self._woken = True

    def _should_look(self, suspects: int) -> bool:
        """Whether something may have come since the last look, which found nothing."""
        bell = self._bell
        unsure = self._unsure or (self._celery is not None and self._celery.unsure)
        if bell.asked and not unsure:
            rang, woken = bell.wait(0)
            self._woken = self._woken or woken
            if not rang:
                due = time.monotonic() >= self._next_due() or suspects > self._suspects
                return due or self._has_come()
        return True

    def _has_come(self) -> bool:
        """Look now and then, at little cost, whether Celery's lists that ring for nobody have come."""
        celery = self._celery
        if celery is None or time.monotonic() < self._next():
            return False
        self._look_at = time.monotonic() + LOOK
        deaf = self._bell.ears.deaf
        quiet = [queue for queue in self._queues if deaf or queue not in celery.known]
        try:
            if not celery.exist(quiet):
                return False
        except BrokerRejected:
            pass  # the look will say why
        self._look_at = 0.0
        return True

    def _next_due(self) -> float:
        """Return the `time.monotonic()` at which something becomes due."""
        return self._due if self._celery is None else min(self._due, self._celery.due)

    def _next(self) -> float:
        """Return the `time.monotonic()` at which to look without having been rung."""
        due, celery = self._next_due(), self._celery
        if celery is None or (len(celery.known) == len(self._queues) and not self._bell.ears.deaf):
            return due
        return min(due, self._look_at)

    def _pass_on(self) -> None:
        """Let others have the ring that this worker, which has no room for more, may get."""
        if self._bell.silence():
            with contextlib.suppress(BrokerUnavailable, BrokerRejected):
                # A claim of nothing rings for whoever has room.
                args = (self._keys.prefix, self._holder, "", 0, 0, 0, *self._queues)
                self._server.run(CLAIM, self._keys.messages, args)
                self._bell.rang = False

    def _take_both(self, limit: int, suspects: int) -> list[Delivery]:
        """Take from the own queues, and from Celery's lists: now these first, now those."""
        celery = self._celery
        if celery is None:
            return self._take(limit, suspects)
        self._celery_first = not self._celery_first
        batch: list[Delivery] = []
        for own in (not self._celery_first, self._celery_first):
            room = limit - len(batch)
            alone = max(0, suspects - sum(d.handed_out > 1 for d in batch))
            if room <= 0:
                break
            try:
                batch += self._take(room, alone) if own else self._take_celery(celery, room, alone)
            except BrokerUnavailable:
                if not batch:
                    raise
                break  # what has been taken must not be forgotten
        return batch

    def _take_celery(self, celery: CeleryLists, room: int, suspects: int) -> list[Delivery]:
        """Look into Celery's lists; where Celery does not know the queues, now and then."""
        now = time.monotonic()
        if now < self._look_at and not (celery.known or celery.unsure):
            return []
        # After what was asked for again, there may be more.
        self._look_at = now if celery.unsure else now + LOOK
        try:
            batch = celery.claim(self._queues, room, suspects)
        except BrokerRejected as error:
            # The own queues go on.
            logger.error("messages of Celery producers cannot be taken: %s", error)
            celery.known, self._look_at = frozenset(), now + REFUSED
            return []
        layout = celery.layout
        # Their order as it was asked for: an ear that is open already stays so.
        known = [queue for queue in sorted(self._queues) if queue in celery.known]
        self._bell.ears.listen([name for queue in known for name in layout.lists(queue)])
        return batch

    def _take(self, limit: int, suspects: int) -> list[Delivery]:
        until = time.monotonic() + self._lease
        again = bool(self._unsure)
        if again:
            token, script = self._unsure, REFETCH
            args: tuple[Any, ...] = (token,)
        else:
            token, script = secrets.token_hex(TOKEN // 2), CLAIM
            queues = self._queues
            if len(queues) > 1:
                # The next one is asked first the next time: none starves behind a busy one.
                self._queues = queues = (*queues[1:], queues[0])
            args = (token, limit, suspects, int(self._lease * 1000), *queues)
        self._unsure = self._in_flight = token
        try:
            # What was asked for again may have been taken for strays, and is none any more.
            with self._handing if again else contextlib.nullcontext():
                flat = self._server.run(
                    script, self._keys.messages, (self._keys.prefix, self._holder, *args)
                )
                if again:
                    self._strays = frozenset()
        except BrokerRejected as error:
            # A worker that goes away would not see it mended.
            raise BrokerUnavailable(str(error)) from error
        finally:
            self._in_flight = ""
        self._unsure, self._bell.rang = "", False
        due = flat[0]
        self._due = float("inf")
        if due:
            self._due = time.monotonic() + max(0.0, float(due))
        batch = [
            Delivery(unpack(flat[i], flat[i + 1]), token, until, int(flat[i + 2]) + 1)
            for i in range(1, len(flat), 3)
        ]
        if len(batch) > 1 and len(self._queues) + suspects > 1:
            batch.sort(key=_urgency)
        # Where that claim was never made, what the bell rang for is still there.
        return self._take(limit, suspects) if again and not batch else batch

    # -- settling -------------------------------------------------------------------------------

    def settle(self, batch: Sequence[Settlement]) -> Sequence[Delivery]:
        """End deliveries, each with its records, part and follow-ups, in one script."""
        if not batch:
            return ()
        names = {(str(s.delivery.receipt), s.delivery.envelope.id) for s in batch}
        self._ending = names
        try:
            with _mendable():
                lost = self._settle(batch)
        except BrokerUnavailable:
            # It may have been done: when it is tried again, what is not ours then was settled now.
            # After the lease nobody tries it again.
            now = time.monotonic()
            self._maybe = {name: until for name, until in self._maybe.items() if until >= now}
            for settlement in batch:
                self._maybe[_name(settlement.delivery)] = settlement.delivery.lease_until
            raise
        finally:
            self._ending = set()
        if self._maybe:
            lost = [delivery for delivery in lost if _name(delivery) not in self._maybe]
            for settlement in batch:
                self._maybe.pop(_name(settlement.delivery), None)
        return lost

    def _settle(self, batch: Sequence[Settlement]) -> list[Delivery]:
        own: list[Settlement] = []
        theirs: list[Settlement] = []
        for settlement in batch:
            (theirs if isinstance(settlement.delivery.receipt, Tag) else own).append(settlement)
        lost: list[Delivery] = []
        if theirs and self._celery is not None:
            lost += [theirs[n].delivery for n in self._celery.settle(theirs)]
        for some in _by_size(own):
            now = time.time()
            args: list[Any] = [self._keys.prefix, self._holder]
            for settlement in some:
                self._add(args, settlement, now)
            stale = self._server.run(SETTLE, self._keys.messages, args)
            lost += [some[n].delivery for n in stale]
        return lost

    def _add(self, args: list[Any], settlement: Settlement, now: float) -> None:
        delivery, record, part = settlement.delivery, settlement.record, settlement.part
        follow_ups = settlement.publish
        if settlement.verdict is Verdict.RETRY:
            follow_ups = (settlement.again or delivery.envelope, *follow_ups)
        extra: str | bytes = ""
        if settlement.verdict is Verdict.BURY:
            extra = burial_head(delivery.handed_out, now, settlement.reason)
        args += (
            _LETTERS[settlement.verdict],
            delivery.envelope.id,
            delivery.receipt,
            extra,
            0 if record is None else 1,
            0 if part is None else 1,
            len(follow_ups),
        )
        if record is not None:
            args += record_fields(record, self._keys)
        if part is not None:
            args += part_fields(part)
        for envelope in follow_ups:
            args += fields(envelope, now, self._keys.celery)

    # -- the lease ------------------------------------------------------------------------------

    def extend(self, held: Sequence[Delivery], *, lease: float) -> Sequence[Delivery]:
        """Renew this holder's one lease, and look which deliveries are still its own."""
        with _mendable():
            return self._extend(held, lease)

    def _extend(self, held: Sequence[Delivery], lease: float) -> Sequence[Delivery]:
        ending = self._ending
        until = time.monotonic() + lease
        own: list[Delivery] = []
        theirs: list[Delivery] = []
        for delivery in held:
            (theirs if isinstance(delivery.receipt, Tag) else own).append(delivery)
        args: list[Any] = [self._keys.prefix, self._holder, int(lease * 1000)]
        for delivery in own:
            args += (delivery.envelope.id, delivery.receipt)
        count, *positions = self._server.run(EXTEND, self._keys.messages, args)
        stale = {id(own[n]) for n in positions}
        strays = count > len(own) - len(stale)
        with self._handing:
            self._strays = self._look_for_strays(own) if strays else frozenset()
        if self._celery is not None:
            stale |= {id(theirs[n]) for n in self._celery.extend(theirs, lease, self._ending)}
        # What is just being settled is gone on the server before the settler knows of it.
        ending = ending | self._ending
        lost = []
        for delivery in held:
            if id(delivery) not in stale:
                delivery.lease_until = until
            elif (str(delivery.receipt), delivery.envelope.id) not in ending:
                lost.append(delivery)
        return lost

    def _look_for_strays(self, held: Sequence[Delivery]) -> frozenset[tuple[str, str]]:
        """Give back what this holder has and nobody here knows of; return what may be such.

        A refused settlement leaves one: its lease would be renewed for ever.  What is just on its
        way to the worker, or being settled, looks the same, but not twice.
        """
        key = f"{self._keys.prefix}h:{self._holder}"
        flat = self._server.call("HGETALL", key)
        there = {
            (mark[:TOKEN].decode(), task_id.decode())
            for task_id, mark in zip(flat[::2], flat[1::2], strict=True)
        }
        in_flight = self._in_flight
        there = {one for one in there if one[0] != in_flight}
        there -= {(str(delivery.receipt), delivery.envelope.id) for delivery in held}
        lost = [one for one in there & self._strays if one not in self._ending]
        if lost:
            args: list[Any] = [self._keys.prefix, self._holder]
            for token, task_id in lost:
                args += ("X", task_id, token, "", 0, 0, 0)
            self._server.run(SETTLE, self._keys.messages, args)
            logger.warning("%d tasks that were held for nobody were given back", len(lost))
        return frozenset(there.difference(lost))

    def close(self) -> None:
        """Give up the hold; where the server is away, the end of the lease does it."""
        if self._closed:
            return
        self._closed = True
        self.wake()
        with contextlib.suppress(BrokerUnavailable, BrokerRejected):
            self._server.run(GIVE_BACK, self._keys.messages, (self._keys.prefix, self._holder))
            if self._celery is not None:
                self._celery.close()
        self._bell.close()


@contextlib.contextmanager
def _mendable() -> Iterator[None]:
    """Take a password that was changed, or a right that was taken away, for what may be mended.

    An outcome that is there must not be given up for it.
    """
    try:
        yield
    except LoginRefused as error:
        raise BrokerUnavailable(str(error)) from error


def _name(delivery: Delivery) -> str:
    return f"{delivery.envelope.id}{delivery.receipt}"


def _urgency(delivery: Delivery) -> int:
    return -delivery.envelope.priority


def _by_size(batch: Sequence[Settlement]) -> Iterator[Sequence[Settlement]]:
    """Return a batch in parts that one command can hold: Redis hangs up on a larger one."""
    start = size = 0
    for n, settlement in enumerate(batch):
        record = settlement.record
        own = len(record.body or b"") * (2 if settlement.part else 1) if record else 0
        own += sum(len(envelope.body) for envelope in settlement.publish)
        if size and size + own > LARGEST:
            yield batch[start:n]
            start, size = n, 0
        size += own
    if start < len(batch):
        yield batch[start:]
