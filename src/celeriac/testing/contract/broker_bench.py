"""What the tests of a broker have in common.

Owns: BrokerBench, task, ids, ack.
May import: everything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from celeriac.kernel.message import Delivery, Envelope, Settlement, Verdict
from celeriac.ports.broker import Broker, Consumer
from celeriac.ports.registry import Family
from celeriac.ports.results import ResultBackend
from celeriac.testing.eventually import eventually, in_thread

MakeConsumer = Callable[..., Consumer]


def task(name: object = "t", queue: str = "q", priority: int = 0, delay: float = 0.0) -> Envelope:
    """Return an envelope with what a test does not care about filled in."""
    not_before = time.time() + delay if delay else 0.0
    return Envelope(str(name), queue, f"body {name}".encode(), priority, not_before)


def ids(found: Sequence[Delivery]) -> list[str]:
    """Return the ids of deliveries, in their order."""
    return [one.envelope.id for one in found]


def ack(*held: Delivery) -> list[Settlement]:
    """Return what ends deliveries for good."""
    return [Settlement(one, Verdict.ACK) for one in held]


class BrokerBench:
    """The fixtures of `BrokerContract`, and what its tests have in common."""

    wake_bound = 0.05
    short_lease = 0.4

    def refused(self) -> Envelope | None:
        """Return an envelope that this driver refuses, or None where it takes all."""
        return None

    @pytest.fixture
    def broker(self, family: Family) -> Iterator[Broker]:
        """Return the broker under test, open."""
        broker = family.broker()
        broker.open()
        yield broker
        broker.close()

    @pytest.fixture
    def results(self, family: Family, broker: Broker) -> Iterator[ResultBackend]:
        """Return the store that is written with the settlement."""
        results = family.results()
        if results.name not in broker.caps.settles_with:
            pytest.skip("results are not written with the settlement")
        results.open()
        yield results
        results.close()

    @pytest.fixture
    def consume(self, broker: Broker) -> Iterator[MakeConsumer]:
        """Return what makes consumers, closed at the end."""
        made: list[Consumer] = []

        def consume(*queues: str, lease: float = 60.0) -> Consumer:
            made.append(broker.consume(queues or ("q",), owner=f"w{len(made)}", lease=lease))
            return made[-1]

        yield consume
        for consumer in made:
            consumer.close()

    def need(self, broker: Broker, feature: str) -> None:
        """Skip a test of what this driver does not do."""
        if not getattr(broker.caps, feature):
            pytest.skip(f"not {feature}")

    def one(self, consumer: Consumer) -> Delivery:
        """Claim one delivery."""
        (delivery,) = consumer.claim(1, wait=5)
        return delivery

    def lose(self, broker: Broker, holder: Consumer, other: Consumer) -> tuple[Delivery, Delivery]:
        """Let the lease of one delivery run out; return it, and the one that came after it."""
        if broker.caps.lease != "timed":
            pytest.skip("leases end with the connection")

        def keep() -> None:
            broker.upkeep(time.time())

        keep()
        old = self.one(holder)
        (new,) = eventually(lambda: other.claim(1, wait=0), within=25, every=0.05, each=keep)
        return old, new

    def wakes(self, consumer: Consumer, act: Callable[[], object]) -> float:
        """Return how long a waiting claim took to notice what `act` did."""
        with in_thread(lambda: self.one(consumer)) as later:
            time.sleep(0.05)
            began = time.monotonic()
            act()
            got = later.value()
        assert isinstance(got, Delivery)
        consumer.settle(ack(got))
        return later.ended_at - began
