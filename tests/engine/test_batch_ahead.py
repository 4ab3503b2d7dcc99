"""`app.batch()` on a broker whose confirms come later: it runs ahead, and still loses nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from celeriac.client import publisher as module
from celeriac.client.publisher import Batch, Publisher
from celeriac.kernel.errors import BrokerRejected, BrokerUnavailable
from celeriac.kernel.message import Envelope

BLOCK = module.FLUSH_AT
POLICY = {"max_retries": 3, "interval_start": 0, "interval_step": 0, "interval_max": 0}


class Later:
    """A broker that confirms when it is asked to."""

    def __init__(self) -> None:
        self.begun: list[list[str]] = []
        self.safe: list[str] = []
        self.published: list[str] = []
        self.faults: dict[int, Exception] = {}
        """By number of the block: what waiting for it raises."""

    def begin(self, batch: Sequence[Envelope]) -> Callable[[], None]:
        ids = [one.id for one in batch]
        number = len(self.begun)
        self.begun.append(ids)

        def wait() -> None:
            if number in self.faults:
                raise self.faults[number]
            self.safe += ids

        return wait

    def publish(self, batch: Sequence[Envelope]) -> None:
        self.published += [one.id for one in batch]


def envelopes(count: int, first: int = 0) -> list[Envelope]:
    return [Envelope(str(n), "q", b"") for n in range(first, first + count)]


@pytest.fixture
def broker() -> Later:
    return Later()


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def publisher(broker: Later, told: list[str]) -> Publisher:
    return Publisher(
        lambda: cast(Any, broker), 5.0, on_sent=lambda batch: told.extend(one.id for one in batch)
    )


def test_it_runs_ahead_and_ends_with_all_safe(
    publisher: Publisher, broker: Later, told: list[str]
) -> None:
    blocks = module.AHEAD + 2
    with Batch(publisher) as batch:
        for number in range(blocks):
            batch.add(envelopes(BLOCK, number * BLOCK))
            assert len(broker.begun) == number + 1
            # Its memory is bounded: so many blocks unconfirmed, and no more.
            assert len(broker.safe) == max(0, number + 1 - module.AHEAD) * BLOCK
        batch.add(envelopes(5, blocks * BLOCK))
    every = [str(n) for n in range(blocks * BLOCK + 5)]
    assert broker.safe == every
    assert told == every
    assert broker.published == []


def test_a_small_batch_is_one_publish(publisher: Publisher, broker: Later) -> None:
    with Batch(publisher) as batch:
        batch.add(envelopes(5))
    assert broker.published == [str(n) for n in range(5)]
    assert broker.begun == []


def test_what_was_lost_on_the_way_is_sent_again(publisher: Publisher, broker: Later) -> None:
    broker.faults[1] = BrokerUnavailable("gone")
    with Batch(publisher, POLICY) as batch:
        for number in range(3):
            batch.add(envelopes(BLOCK, number * BLOCK))
    assert broker.published == [str(n) for n in range(BLOCK, 2 * BLOCK)]
    assert len(broker.safe) == 2 * BLOCK


def test_without_a_policy_it_raises(publisher: Publisher, broker: Later) -> None:
    broker.faults[0] = BrokerUnavailable("gone")
    with pytest.raises(BrokerUnavailable), Batch(publisher) as batch:
        batch.add(envelopes(BLOCK))
        batch.add(envelopes(1))


def test_the_errors_of_a_block_that_raises(publisher: Publisher, broker: Later) -> None:
    broker.faults[0] = BrokerRejected("no such exchange")
    broker.faults[1] = BrokerUnavailable("gone")

    def body() -> None:
        with Batch(publisher) as batch:
            batch.add(envelopes(BLOCK))
            batch.add(envelopes(BLOCK, BLOCK))
            batch.add(envelopes(3))
            raise KeyError("the program's own")

    with pytest.raises(KeyError):
        body()
    assert broker.published == []
    assert broker.safe == []
