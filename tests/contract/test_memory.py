"""The memory driver against the contracts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from celeriac.drivers.memory import MemoryFamily
from celeriac.kernel.clock import ManualClock
from celeriac.kernel.errors import BrokerRejected, BrokerUnavailable, PublishUncertain
from celeriac.kernel.message import Envelope, Record
from celeriac.testing.contract.broker import BrokerContract
from celeriac.testing.contract.bus import BusContract
from celeriac.testing.contract.results import ResultsContract
from celeriac.testing.contract.schedules import SchedulesContract
from celeriac.testing.eventually import in_thread
from celeriac.testing.faults import FlakyBroker, FlakyResults
from celeriac.testing.signals import TestSignal


@pytest.fixture
def family() -> Iterator[MemoryFamily]:
    family = MemoryFamily("memory://", {"private": True})
    yield family
    family.close()


class TestBroker(BrokerContract):
    pass


class TestResults(ResultsContract):
    pass


class TestBus(BusContract):
    pass


class TestSchedules(SchedulesContract):
    pass


def test_one_url_is_one_world() -> None:
    one, two = MemoryFamily("memory://shared", {}), MemoryFamily("memory://shared/", {})
    other, own = MemoryFamily("memory://other", {}), MemoryFamily("memory://shared", {"private": 1})
    one.broker().publish([Envelope("t", "q", b"")])
    assert two.broker().count(["q"])["q"].ready == 1
    assert other.broker().count(["q"])["q"].ready == own.broker().count(["q"])["q"].ready == 0
    assert two.results().name in one.broker().caps.settles_with
    assert own.results().name not in one.broker().caps.settles_with
    one.close()
    assert two.broker().purge("q") == 1


def test_a_clock_that_is_moved() -> None:
    clock = ManualClock()
    family = MemoryFamily("memory://", {"private": True, "clock": clock})
    broker, results = family.broker(), family.results()
    consumer = broker.consume(["q"], owner="w", lease=30)
    broker.publish([Envelope("t", "q", b"", not_before=clock.time() + 60)])
    results.store([Record("r", "SUCCESS", None, expires_at=clock.time() + 60)])
    assert consumer.claim(1, wait=0.05) == []
    with in_thread(lambda: consumer.claim(1, wait=10)) as later:
        clock.advance(59.9)
        family.wake()
        assert later.running
        clock.advance(0.1)
        assert len(later.value(5)) == 1  # type: ignore[arg-type]
    assert results.fetch(["r"]) == {}
    clock.advance(29)
    broker.upkeep(clock.time())
    assert consumer.claim(1, wait=0) == []
    clock.advance(1)
    broker.upkeep(clock.time())
    assert consumer.claim(1, wait=0)[0].handed_out == 2


def test_a_forked_child_is_refused(family: MemoryFamily) -> None:
    family.after_fork()
    with pytest.raises(BrokerRejected, match="forked"):
        family.broker().publish([Envelope("t", "q", b"")])
    with pytest.raises(BrokerRejected, match="forked"):
        family.results().fetch(["t"])


def test_a_flaky_broker(family: MemoryFamily) -> None:
    broker = FlakyBroker(family.broker())
    consumer = broker.consume(["q"], owner="w", lease=30)
    broker.down()
    with pytest.raises(BrokerUnavailable):
        broker.publish([Envelope("a", "q", b"")])
    broker.up()
    broker.fail("publish", nth=2)
    broker.lose_reply("publish", nth=3)
    broker.publish([Envelope("b", "q", b"")])
    with pytest.raises(BrokerUnavailable):
        broker.publish([Envelope("c", "q", b"")])
    with pytest.raises(PublishUncertain):
        broker.publish([Envelope("d", "q", b"")])
    broker.fail(error=BrokerRejected("full"))
    with pytest.raises(BrokerRejected, match="full"):
        consumer.claim(1, wait=0)
    assert [one.envelope.id for one in consumer.claim(9, wait=0)] == ["b", "d"]
    assert broker.calls["publish"] == 4


def test_a_flaky_store(family: MemoryFamily) -> None:
    results = FlakyResults(family.results())
    results.lose_reply("store")
    with pytest.raises(BrokerUnavailable):
        results.store([Record("t", "SUCCESS", None)])
    assert results.fetch(["t"])


def test_a_signal() -> None:
    signal = TestSignal()
    signal.hit()
    signal.listen()
    with in_thread(lambda: (signal.hit(), signal.hit())):
        signal.wait(2)
    signal.hold()
    with in_thread(signal.hit) as later:
        signal.wait(3)
        assert later.running
        signal.release()
    with pytest.raises(AssertionError, match="reached 3 times"):
        signal.wait(4, timeout=0.01)
