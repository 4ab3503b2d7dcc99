"""Brokers and stores that fail when a test says so.

Every call to the wrapped port passes `Faults`, which may raise before it (nothing was done) or
after it (it was done and the reply was lost).

Owns: Faults, FlakyBroker, FlakyResults.
Thread rule: everything may be called from any thread.
May import: kernel, ports.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from celeriac.kernel.errors import BrokerUnavailable, PublishUncertain
from celeriac.kernel.message import (
    Buried,
    Delivery,
    Envelope,
    Group,
    Part,
    QueueCount,
    Ready,
    Record,
    Settlement,
)
from celeriac.ports.broker import Broker, Consumer
from celeriac.ports.results import ResultBackend, Watch

T = TypeVar("T")


class Faults:
    """What goes wrong with the calls that pass here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._down = False
        self._before: dict[tuple[str, int], BaseException | None] = {}
        self._after: set[tuple[str, int]] = set()
        self.calls: Counter[str] = Counter()
        """How often each method was called; `*` counts them all."""

    def down(self) -> None:
        """Let every call raise BrokerUnavailable, from now on."""
        self._down = True

    def up(self) -> None:
        """End `down`."""
        self._down = False

    def fail(self, method: str = "*", *, nth: int = 1, error: BaseException | None = None) -> None:
        """Let one call raise instead of being done.

        :param method: its name, e.g. `settle`; `*` for a call of any name.
        :param nth: which call, counted from now: 1 is the next.
        :param error: what is raised, BrokerUnavailable where it is None.
        """
        with self._lock:
            self._before[method, self.calls[method] + nth] = error

    def lose_reply(self, method: str = "*", *, nth: int = 1) -> None:
        """Let one call be done and raise all the same, as when the reply is lost.

        :param method: as in `fail`.
        :param nth: as in `fail`.
        """
        with self._lock:
            self._after.add((method, self.calls[method] + nth))

    def through(self, method: str, call: Callable[[], T]) -> T:
        """Make a call, or what is to happen instead of it."""
        with self._lock:
            self.calls[method] += 1
            self.calls["*"] += 1
            keys = {(name, self.calls[name]) for name in (method, "*")}
            failing = [self._before.pop(key) for key in keys if key in self._before]
            lost = bool(keys & self._after)
            self._after -= keys
        if self._down:
            raise BrokerUnavailable(f"{method}: the broker is down, as the test wants it")
        if failing:
            raise failing[0] or BrokerUnavailable(f"{method}: failed, as the test wants it")
        value = call()
        if lost:
            kind = PublishUncertain if method == "publish" else BrokerUnavailable
            raise kind(f"{method}: done, and the reply was lost, as the test wants it")
        return value


class FlakyBroker(Faults):
    """A broker that fails on demand, and so do its consumers; all share one `Faults`.

    `wake`, `watch` and `close` of a consumer never fail: they stay in the process.

    :param broker: the broker that does the work.
    """

    def __init__(self, broker: Broker) -> None:
        super().__init__()
        self.caps = broker.caps
        self._broker = broker

    def open(self) -> None:
        """See `Broker.open`."""
        self.through("open", self._broker.open)

    def close(self) -> None:
        """See `Broker.close`."""
        self._broker.close()

    def declare(self, queues: Sequence[str]) -> None:
        """See `Broker.declare`."""
        self.through("declare", lambda: self._broker.declare(queues))

    def publish(self, batch: Sequence[Envelope]) -> None:
        """See `Broker.publish`."""
        self.through("publish", lambda: self._broker.publish(batch))

    def consume(self, queues: Sequence[str], *, owner: str, lease: float) -> FlakyConsumer:
        """See `Broker.consume`."""
        consumer = self.through(
            "consume", lambda: self._broker.consume(queues, owner=owner, lease=lease)
        )
        return FlakyConsumer(self, consumer)

    def withdraw(self, ids: Sequence[str]) -> Sequence[str]:
        """See `Broker.withdraw`."""
        return self.through("withdraw", lambda: self._broker.withdraw(ids))

    def count(self, queues: Sequence[str]) -> Mapping[str, QueueCount]:
        """See `Broker.count`."""
        return self.through("count", lambda: self._broker.count(queues))

    def peek(self, queue: str, *, limit: int, after: str | None = None) -> Sequence[Envelope]:
        """See `Broker.peek`."""
        return self.through("peek", lambda: self._broker.peek(queue, limit=limit, after=after))

    def purge(self, queue: str) -> int:
        """See `Broker.purge`."""
        return self.through("purge", lambda: self._broker.purge(queue))

    def buried(self, *, limit: int, after: str | None = None) -> Sequence[Buried]:
        """See `Broker.buried`."""
        return self.through("buried", lambda: self._broker.buried(limit=limit, after=after))

    def requeue(self, ids: Sequence[str]) -> Sequence[str]:
        """See `Broker.requeue`."""
        return self.through("requeue", lambda: self._broker.requeue(ids))

    def drop(self, ids: Sequence[str]) -> Sequence[str]:
        """See `Broker.drop`."""
        return self.through("drop", lambda: self._broker.drop(ids))

    def upkeep(self, now: float) -> None:
        """See `Broker.upkeep`."""
        self.through("upkeep", lambda: self._broker.upkeep(now))


class FlakyConsumer:
    """A consumer whose calls fail on demand of its broker."""

    def __init__(self, faults: Faults, consumer: Consumer) -> None:
        self._faults = faults
        self._consumer = consumer

    def claim(self, limit: int, *, wait: float, suspects: int = 1) -> Sequence[Delivery]:
        """See `Consumer.claim`."""
        return self._faults.through(
            "claim", lambda: self._consumer.claim(limit, wait=wait, suspects=suspects)
        )

    def settle(self, batch: Sequence[Settlement]) -> Sequence[Delivery]:
        """See `Consumer.settle`."""
        return self._faults.through("settle", lambda: self._consumer.settle(batch))

    def extend(self, held: Sequence[Delivery], *, lease: float) -> Sequence[Delivery]:
        """See `Consumer.extend`."""
        return self._faults.through("extend", lambda: self._consumer.extend(held, lease=lease))

    def watch(self, queues: Sequence[str]) -> None:
        """See `Consumer.watch`."""
        self._consumer.watch(queues)

    def wake(self) -> None:
        """See `Consumer.wake`."""
        self._consumer.wake()

    def close(self) -> None:
        """See `Consumer.close`."""
        self._consumer.close()


class FlakyResults(Faults):
    """A result store that fails on demand; its watches do not.

    :param results: the store that does the work.
    """

    def __init__(self, results: ResultBackend) -> None:
        super().__init__()
        self.caps = results.caps
        self.name = results.name
        self._results = results

    def open(self) -> None:
        """See `ResultBackend.open`."""
        self.through("open", self._results.open)

    def close(self) -> None:
        """See `ResultBackend.close`."""
        self._results.close()

    def store(self, batch: Sequence[Record]) -> None:
        """See `ResultBackend.store`."""
        self.through("store", lambda: self._results.store(batch))

    def fetch(self, ids: Sequence[str]) -> Mapping[str, Record]:
        """See `ResultBackend.fetch`."""
        return self.through("fetch", lambda: self._results.fetch(ids))

    def watch(self) -> Watch:
        """See `ResultBackend.watch`."""
        return self.through("watch", self._results.watch)

    def forget(self, ids: Sequence[str]) -> None:
        """See `ResultBackend.forget`."""
        self.through("forget", lambda: self._results.forget(ids))

    def open_group(self, group: Group) -> None:
        """See `ResultBackend.open_group`."""
        self.through("open_group", lambda: self._results.open_group(group))

    def close_parts(self, parts: Sequence[Part]) -> Sequence[Ready]:
        """See `ResultBackend.close_parts`."""
        return self.through("close_parts", lambda: self._results.close_parts(parts))

    def parts(self, group: str) -> Iterable[Record]:
        """See `ResultBackend.parts`."""
        return self.through("parts", lambda: self._results.parts(group))

    def mark_sent(self, groups: Sequence[str]) -> None:
        """See `ResultBackend.mark_sent`."""
        self.through("mark_sent", lambda: self._results.mark_sent(groups))

    def expire(self, before: float, *, limit: int) -> int:
        """See `ResultBackend.expire`."""
        return self.through("expire", lambda: self._results.expire(before, limit=limit))
