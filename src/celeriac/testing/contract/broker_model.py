"""A tiny model of a broker, and a machine that compares a real one with it step by step.

Leases do not run out here, and what is delayed never becomes due: time is for the other tests.

Owns: BrokerMachine.
May import: everything.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from celeriac.kernel.message import Delivery, Envelope, QueueCount, Settlement, Verdict
from celeriac.ports.broker import Broker

_examples = itertools.count(1)
_NAMES = st.sampled_from("abcdefgh")
_WHICH = st.integers(0, 7)


@dataclass
class Known:
    """What the model knows of one envelope that is queued or held."""

    envelope: Envelope
    arrival: int | None
    """Its place in the queue; None where the contract leaves it open."""
    losses: int = 0
    delivery: Delivery | None = None
    holder: int = 0
    """Which consumer has the delivery."""

    @property
    def ready(self) -> bool:
        """Tell whether it can be claimed."""
        return self.delivery is None and self.envelope.not_before == 0


class BrokerMachine(RuleBasedStateMachine):
    """Does the same to a broker and to the model; two consumers, one queue, few ids.

    :param broker: dedupes, withdraws and counts; its store may hold other queues.
    """

    def __init__(self, broker: Broker) -> None:
        super().__init__()
        self.broker = broker
        self.example = next(_examples)
        self.queue = f"model{self.example}"
        self.consumers = [
            broker.consume([self.queue], owner=f"worker{n}", lease=600) for n in range(2)
        ]
        self.known: dict[str, Known] = {}
        self.buried: dict[str, Known] = {}
        self.stale: list[Delivery] = []
        self.arrivals = itertools.count()

    def teardown(self) -> None:
        """Leave nothing behind for the next example."""
        for consumer in self.consumers:
            consumer.close()
        self.broker.purge(self.queue)
        self.broker.drop(list(self.buried))
        counts = self.broker.count([self.queue])[self.queue]
        assert (counts.ready, counts.delayed, counts.held) == (0, 0, 0)

    def _id(self, name: str) -> str:
        return f"{self.example}-{name}"

    def _held(self, which: int) -> Known:
        held = [known for known in self.known.values() if known.delivery is not None]
        return held[which % len(held)]

    def _any_held(self) -> bool:
        return any(known.delivery is not None for known in self.known.values())

    @rule(
        names=st.lists(_NAMES, max_size=4),
        priority=st.integers(0, 9),
        delayed=st.booleans(),
    )
    def publish(self, names: list[str], priority: int, delayed: bool) -> None:
        """Publish some; those that are known already are not published."""
        level = priority if self.broker.caps.priorities >= 10 else 0
        not_before = time.time() + 10_000 if delayed else 0.0
        # What is published under the id of a buried one is left open.
        batch = [
            Envelope(self._id(name), self.queue, name.encode(), level, not_before)
            for name in names
            if self._id(name) not in self.buried
        ]
        self.broker.publish(batch)
        for envelope in batch:
            if envelope.id not in self.known:
                self.known[envelope.id] = Known(envelope, next(self.arrivals))

    @rule(who=st.integers(0, 1), limit=st.integers(1, 5), suspects=st.integers(0, 2))
    def claim(self, who: int, limit: int, suspects: int) -> None:
        """Claim; check that it took what it should, in an order that it may."""
        ready = {key: known for key, known in self.known.items() if known.ready}
        clean = sum(known.losses == 0 for known in ready.values())
        doubtful = min(suspects, len(ready) - clean)
        taken = self.consumers[who].claim(limit, wait=0, suspects=suspects)
        ids = [one.envelope.id for one in taken]
        assert len(set(ids)) == len(ids)
        assert set(ids) <= set(ready)
        assert min(limit, clean) <= len(taken) <= min(limit, clean + doubtful)
        assert taken or not (clean or doubtful)
        assert sum(one.handed_out > 1 for one in taken) <= suspects
        for one in taken:
            known = self.known[one.envelope.id]
            assert one.envelope == known.envelope
            assert one.handed_out == known.losses + 1
            known.delivery, known.holder = one, who
        self._check_order([ready[key] for key in ids], list(ready.values()))

    def _check_order(self, taken: list[Known], ready: list[Known]) -> None:
        # Suspects may be handed out apart, so only the others are compared.
        first = [known for known in taken if known.losses == 0]
        rest = [known for known in ready if known.losses == 0 and known.delivery is None]
        for one, other in itertools.chain(
            itertools.combinations(first, 2), itertools.product(first, rest)
        ):
            assert one.envelope.priority >= other.envelope.priority, "a lower priority first"
            if one.envelope.priority == other.envelope.priority:
                if one.arrival is not None and other.arrival is not None:
                    assert one.arrival < other.arrival, "a later arrival first"

    @precondition(_any_held)
    @rule(which=_WHICH, verdict=st.sampled_from(Verdict))
    def settle(self, which: int, verdict: Verdict) -> None:
        """End a delivery in any way."""
        known = self._held(which)
        delivery, envelope = known.delivery, known.envelope
        assert delivery is not None
        settlement = Settlement(delivery, verdict, reason="because")
        if verdict is Verdict.RETRY:
            settlement.again = Envelope(
                envelope.id, self.queue, b"again", envelope.priority, attempt=envelope.attempt + 1
            )
        assert list(self.consumers[known.holder].settle([settlement])) == []
        self.stale.append(delivery)
        known.delivery = None
        if verdict is Verdict.LOST:
            known.losses += 1
        elif verdict is not Verdict.RELEASE:
            del self.known[envelope.id]
        if verdict is Verdict.BURY:
            self.buried.pop(envelope.id, None)
            self.buried[envelope.id] = known
        elif settlement.again is not None:
            self.known[envelope.id] = Known(settlement.again, None)

    @precondition(lambda self: self.stale)
    @rule(which=_WHICH, verdict=st.sampled_from([Verdict.ACK, Verdict.BURY, Verdict.LOST]))
    def settle_again(self, which: int, verdict: Verdict) -> None:
        """End what has ended: nothing happens, and it is told."""
        delivery = self.stale[which % len(self.stale)]
        extra = Envelope(f"{self._id('never')}", self.queue, b"")
        settlement = Settlement(delivery, verdict, publish=(extra,))
        for consumer in self.consumers:
            assert list(consumer.settle([settlement])) == [delivery]

    @rule(which=_WHICH)
    def extend(self, which: int) -> None:
        """Extend what is held and what is not; only the latter is named."""
        stale = self.stale[-1 - which :]
        for number, consumer in enumerate(self.consumers):
            held = [
                known.delivery
                for known in self.known.values()
                if known.delivery is not None and known.holder == number
            ]
            assert list(consumer.extend([*stale, *held], lease=600)) == stale

    @rule(names=st.lists(_NAMES, max_size=4, unique=True))
    def withdraw(self, names: list[str]) -> None:
        """Take back what is queued."""
        ids = [self._id(name) for name in names]
        expected = {key for key in ids if (known := self.known.get(key)) and known.delivery is None}
        assert set(self.broker.withdraw(ids)) == expected
        for key in expected:
            del self.known[key]

    @rule(names=st.lists(_NAMES, max_size=4, unique=True))
    def drop(self, names: list[str]) -> None:
        """Delete what is buried."""
        ids = [self._id(name) for name in names]
        expected = {key for key in ids if self.buried.pop(key, None)}
        assert set(self.broker.drop(ids)) == expected

    @rule(names=st.lists(_NAMES, max_size=4, unique=True))
    def requeue(self, names: list[str]) -> None:
        """Put back what is buried, unless its id is in use again."""
        ids = [self._id(name) for name in names if self._id(name) not in self.known]
        expected = {key for key in ids if key in self.buried}
        assert set(self.broker.requeue(ids)) == expected
        for key in expected:
            self.known[key] = Known(self.buried.pop(key).envelope, None)

    @rule()
    def purge(self) -> None:
        """Drop what is queued."""
        gone = [key for key, known in self.known.items() if known.delivery is None]
        assert self.broker.purge(self.queue) == len(gone)
        for key in gone:
            del self.known[key]

    @rule()
    def upkeep(self) -> None:
        """Keep up: nothing has run out, so nothing changes."""
        self.broker.upkeep(time.time())

    @invariant()
    def the_balance_holds(self) -> None:
        """Every accepted id is in exactly one place (I1)."""
        found = self.broker.count([self.queue])[self.queue]
        held = sum(known.delivery is not None for known in self.known.values())
        ready = sum(known.ready for known in self.known.values())
        expected = QueueCount(ready, len(self.known) - held - ready, held, found.oldest)
        assert found == expected
