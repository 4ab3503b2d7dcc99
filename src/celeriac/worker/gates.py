"""What stands between a claim and the pool: revocations and rate limits.

Owns: Revoked, RevokedStamps, NewLimits, RateGate.  Thread rule: asked in the fetcher's
thread; what fills and changes them comes from any.
May import: kernel.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from celeriac.kernel.errors import WireError
from celeriac.kernel.message import Delivery, Settlement, Verdict
from celeriac.kernel.rate import TokenBucket, parse_rate
from celeriac.kernel.wire import pack, task_name, unpack

KEPT = 50_000
"""Revoked ids to remember at the most."""
KEPT_FOR = 10_800.0
"""Seconds that a revocation is remembered."""


class Revoked:
    """Ids that must not be run.

    :param settle: makes the settlement of a delivery that was revoked.
    """

    def __init__(self, settle: Callable[[Delivery], Settlement]) -> None:
        self._settle = settle
        self._lock = threading.Lock()
        self._until: OrderedDict[str, float] = OrderedDict()

    def add(self, ids: Iterable[str], left: float = KEPT_FOR) -> None:
        """Remember ids for `left` seconds; the oldest are forgotten when there are too many."""
        until = time.monotonic() + left
        with self._lock:
            for task_id in ids:
                self._until[task_id] = until
                self._until.move_to_end(task_id)
            while len(self._until) > KEPT:
                self._until.popitem(last=False)

    def ids(self) -> list[str]:
        """Return what is remembered."""
        now = time.monotonic()
        with self._lock:
            return [task_id for task_id, until in self._until.items() if until > now]

    def __call__(self, delivery: Delivery) -> Settlement | None:
        """Stop a delivery that was revoked."""
        if not self._until:
            return None
        until = self._until.get(delivery.envelope.id)
        if until is None or until < time.monotonic():
            return None
        return self._settle(delivery)


class RevokedStamps:
    """Stamps whose tasks must not be run.

    :param settle: makes the settlement of a delivery that was revoked.
    """

    def __init__(self, settle: Callable[[Delivery], Settlement]) -> None:
        self._settle = settle
        self._lock = threading.Lock()
        self._until: OrderedDict[tuple[str, str], float] = OrderedDict()

    def add(self, stamps: Mapping[str, Iterable[str]], left: float = KEPT_FOR) -> None:
        """Remember values of stamps for `left` seconds."""
        until = time.monotonic() + left
        with self._lock:
            for header, values in stamps.items():
                for value in values:
                    self._until[header, value] = until
                    self._until.move_to_end((header, value))
            while len(self._until) > KEPT:
                self._until.popitem(last=False)

    def meets(self, delivery: Delivery) -> bool:
        """Return whether a delivery has a stamp that was revoked."""
        try:
            stamps = unpack(delivery.envelope.body)[0].stamps or {}
        except WireError:
            return False
        now = time.monotonic()
        for header, stamp in stamps.items():
            for value in stamp if isinstance(stamp, (list, tuple)) else (stamp,):
                if self._until.get((header, str(value)), 0.0) > now:
                    return True
        return False

    def __call__(self, delivery: Delivery) -> Settlement | None:
        """Stop a delivery with such a stamp."""
        if not self._until or not self.meets(delivery):
            return None
        return self._settle(delivery)


class NewLimits:
    """Time limits that were changed while the worker runs; a call's own limits win."""

    def __init__(self) -> None:
        self._limits: dict[str, tuple[float | None, float | None]] = {}
        self._lent: set[str] = set()

    def set(self, name: str, hard: float | None, soft: float | None) -> None:
        """Change the limits of a task, seconds."""
        self._limits[name] = (hard, soft)

    def __call__(self, delivery: Delivery) -> Settlement | None:
        """Write the limits into a delivery on its way to the pool."""
        if not self._limits:
            return None
        try:
            head, payload = unpack(delivery.envelope.body)
        except WireError:
            return None
        if head.task in self._limits and head.timelimit == (None, None):
            head.timelimit = self._limits[head.task]
            self._lent.add(delivery.envelope.id)
            delivery.envelope = replace(delivery.envelope, body=pack(head, payload))
        return None

    def take_back(self, ended: Iterable[Settlement]) -> None:
        """Take the limits out of what is tried again: they are this worker's, not the call's."""
        if not self._lent:
            return
        for settlement in ended:
            task_id = settlement.delivery.envelope.id
            if task_id not in self._lent:
                continue
            self._lent.discard(task_id)
            if settlement.again is not None:
                head, payload = unpack(settlement.again.body)
                head.timelimit = (None, None)
                settlement.again = replace(settlement.again, body=pack(head, payload))


class RateGate:
    """Lets each limited task through as often as its rate says; the rest wait in the broker.

    A delivery over the rate goes back with the time at which its turn comes, so that it neither
    fills this worker nor stops other tasks.

    :param rates: task names to `rate_limit` values.
    """

    def __init__(self, rates: Mapping[str, str | float]) -> None:
        self._buckets: dict[str, TokenBucket] = {}
        self._queue_until: dict[str, float] = {}
        for name, rate in rates.items():
            self.limit(name, rate)

    def limit(self, name: str, rate: str | float | None) -> None:
        """Change a task's rate; None or 0 takes it away."""
        per_second = parse_rate(rate)
        self._queue_until.pop(name, None)  # those in it waited at another rate
        if not per_second:
            self._buckets.pop(name, None)
            return
        self._buckets[name] = TokenBucket(per_second, max(1.0, per_second / 10))

    def __call__(self, delivery: Delivery) -> Settlement | None:
        """Stop a delivery whose task is over its rate."""
        if not self._buckets:
            return None
        if delivery.handed_out > 1:
            # It had its turn when it lost its worker; putting it off would also forget that loss.
            return None
        try:
            name = task_name(delivery.envelope.body)
        except WireError:
            return None
        bucket = self._buckets.get(name)
        now = time.monotonic()
        if bucket is None or bucket.take(now):
            return None
        # Each one that is put off takes the next turn, so that they come back one by one.
        behind = self._queue_until.get(name, -math.inf) + 1 / bucket.rate
        turn = max(now + bucket.wait(now), behind)
        limit = now + max(60.0, 100 / bucket.rate)
        turn = min(turn, limit)
        self._queue_until[name] = turn
        again = replace(delivery.envelope, not_before=time.time() + turn - now)
        return Settlement(delivery, Verdict.RETRY, again)
