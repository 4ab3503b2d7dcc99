"""How long a send goes on while the broker is away: never longer than its deadline by much."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac.client import publisher
from celeriac.client.publisher import Publisher
from celeriac.kernel.errors import BrokerUnavailable

POLICY = {"max_retries": None, "interval_start": 0, "interval_step": 0.2, "interval_max": 1}


class Time:
    """A clock that is moved by who sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Away:
    """A broker that never answers.

    :param took: seconds until it is noticed.
    """

    def __init__(self, time: Time, took: float) -> None:
        self.time, self.took, self.times = time, took, 0

    def publish(self, envelopes: Any) -> None:
        self.times += 1
        self.time.now += self.took
        raise BrokerUnavailable("away")


@pytest.mark.parametrize(
    ("deadline", "took", "times", "at_most"),
    [
        (10, 5, 2, 10),
        (3, 1.5, 2, 3),
        (10, 4, 2, 10),
        (3, 3, 1, 3),
        (3, 10, 1, 10),
        (2.1, 0, 6, 2.1),
    ],
)
def test_a_broker_that_is_away(
    monkeypatch: pytest.MonkeyPatch, deadline: float, took: float, times: int, at_most: float
) -> None:
    time = Time()
    monkeypatch.setattr(publisher, "time", time)
    broker: Any = Away(time, took)
    with pytest.raises(BrokerUnavailable):
        Publisher(lambda: broker, deadline).send((), POLICY)
    assert time.now - 1000 <= at_most
    assert broker.times == times
