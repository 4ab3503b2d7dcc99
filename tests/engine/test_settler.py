"""Queue and results in different stores: whatever fails on the way, everything ends once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.drivers.memory import MemoryFamily
from celeriac.kernel.errors import BrokerRejected
from celeriac.kernel.message import Delivery, Envelope, Group, Part, Record, Settlement, Verdict
from celeriac.testing import running_worker
from celeriac.testing.eventually import eventually
from celeriac.testing.faults import FlakyBroker, FlakyResults
from celeriac.worker.held import Held
from celeriac.worker.settler import Settler


class Stores:
    """A broker and a store that fail when told to, and a settler between them."""

    def __init__(self) -> None:
        queue = MemoryFamily("memory://queue", {"private": True})
        store = MemoryFamily("memory://store", {"private": True})
        self.broker = FlakyBroker(queue.broker())
        self.results = FlakyResults(store.results())
        self.held = Held(1, 0)
        self.died: list[BaseException] = []
        self.renew()

    def renew(self) -> None:
        """Begin anew, as a worker that was started again."""
        self.consumer = self.broker.consume(["q"], owner="w", lease=30.0)
        self.settler = Settler(
            self.consumer,
            self.broker,
            self.results,
            self.held,
            on_death=lambda service, error: self.died.append(error),
        )

    def deliver(self) -> Delivery:
        """Publish a task where there is none and claim it."""
        self.broker.publish([Envelope("task", "q", b"body")])
        [delivery] = self.consumer.claim(1, wait=1.0)
        self.held.claimed([delivery])
        return delivery

    def settlement(self, delivery: Delivery) -> Settlement:
        """Return the end of a delivery with a record, a follow-up and a chord's part."""
        record = Record("task", "SUCCESS", b"{}", (0, delivery.handed_out))
        return Settlement(
            delivery,
            Verdict.ACK,
            record=record,
            part=Part("group", 0, record),
            publish=(Envelope("follow-up", "next", b""),),
        )

    def check_end(self) -> None:
        """Check that everything happened once."""
        counts = self.broker.count(["q", "next", "body"])
        assert (counts["q"].ready, counts["q"].held) == (0, 0)
        assert [e.id for e in self.broker.peek("next", limit=10)] == ["follow-up"]
        assert [e.id for e in self.broker.peek("body", limit=10)] == ["chord-body"]
        assert self.results.fetch(["task"])["task"].state == "SUCCESS"
        assert self.results.close_parts([self.part()]) == [], "its follow-up is marked sent"
        assert self.held.all() == []

    def part(self) -> Part:
        """Return the only part of the chord."""
        return Part("group", 0, Record("task", "SUCCESS", b"{}"))


@pytest.fixture
def stores() -> Iterator[Stores]:
    stores = Stores()
    stores.results.open_group(
        Group("group", 1, Envelope("chord-body", "body", b""), Envelope("error", "body", b""))
    )
    yield stores
    stores.settler.stop()
    assert stores.settler.join(5)


STEPS = ["store", "close_parts", "publish", "mark_sent", "settle"]


def of(stores: Stores, step: str) -> Any:
    """Return whose call a step is."""
    return stores.broker if step in ("publish", "settle") else stores.results


def test_nothing_fails(stores: Stores) -> None:
    delivery = stores.deliver()
    order: list[str] = []
    for faults in (stores.broker, stores.results):
        original = faults.through

        def through(method: str, call: Any, original: Any = original) -> Any:
            order.append(method)
            return original(method, call)

        faults.through = through  # type: ignore[method-assign]
    stores.settler.start()
    stores.settler.ended([stores.settlement(delivery)])
    eventually(lambda: not stores.held.all())
    assert order == STEPS
    stores.check_end()


@pytest.mark.parametrize("how", ["fail", "lose_reply"])
@pytest.mark.parametrize("step", STEPS)
def test_each_step_fails_once(stores: Stores, step: str, how: str) -> None:
    delivery = stores.deliver()
    getattr(of(stores, step), how)(step)
    stores.settler.start()
    stores.settler.ended([stores.settlement(delivery)])
    eventually(lambda: not stores.held.all())
    stores.check_end()
    assert stores.died == []


class Kill(BaseException):
    """Ends the process at this point."""


@pytest.mark.parametrize("step", STEPS)
def test_the_worker_dies_at_each_step(stores: Stores, step: str) -> None:
    delivery = stores.deliver()
    of(stores, step).fail(step, error=Kill())
    stores.settler.start()
    stores.settler.ended([stores.settlement(delivery)])
    eventually(lambda: stores.died)
    assert isinstance(stores.died[0], Kill)
    stores.consumer.close()  # the lease ends
    stores.held.settled([delivery])

    stores.died.clear()
    stores.renew()
    [again] = stores.consumer.claim(1, wait=1.0)
    assert (again.envelope.id, again.handed_out) == ("task", 2)
    stores.held.claimed([again])
    stores.settler.start()
    stores.settler.ended([stores.settlement(again)])
    eventually(lambda: not stores.held.all())
    stores.check_end()
    assert stores.died == []


def test_a_store_that_is_away_for_long(stores: Stores) -> None:
    delivery = stores.deliver()
    stores.results.down()
    stores.settler.start()
    stores.settler.ended([stores.settlement(delivery)])
    eventually(lambda: stores.results.calls["store"] >= 3)
    assert stores.broker.count(["q"])["q"].held == 1, "it is not settled before it is stored"
    stores.results.up()
    eventually(lambda: not stores.held.all())
    stores.check_end()


def test_a_lease_that_ends_meanwhile_gives_up(stores: Stores) -> None:
    delivery = stores.deliver()
    delivery.lease_until = 0.0
    stores.results.down()
    stores.settler.start()
    stores.settler.ended([stores.settlement(delivery)])
    eventually(lambda: not stores.held.all())
    stores.results.up()
    assert stores.results.fetch(["task"]) == {}


def test_one_refused_outcome_is_buried_and_the_others_are_not(stores: Stores) -> None:
    stores.broker.publish([Envelope(str(n), "q", b"") for n in range(5)])
    deliveries = stores.consumer.claim(5, wait=1.0)
    stores.held.claimed(deliveries)
    batch = [
        Settlement(d, Verdict.ACK, record=Record(d.envelope.id, "SUCCESS", b"x" * 10))
        for d in deliveries
    ]
    real = stores.results._results.store

    def store(records: Any) -> None:
        if any(record.id == "3" for record in records):
            raise BrokerRejected("too large, as the test wants it")
        real(records)

    stores.results._results.store = store  # type: ignore[method-assign]
    stores.settler.start()
    stores.settler.ended(batch)
    eventually(lambda: not stores.held.all())
    [buried] = stores.broker.buried(limit=10)
    assert buried.envelope.id == "3"
    assert "too large" in buried.reason
    assert set(stores.results.fetch(["0", "1", "2", "3", "4"])) == {"0", "1", "2", "4"}


def test_notes_come_before_ends(stores: Stores) -> None:
    delivery = stores.deliver()
    stores.settler.noted([Record("task", "STARTED", b"{}")])
    stores.settler.ended([stores.settlement(delivery)])
    stores.settler.start()
    eventually(lambda: not stores.held.all())
    stores.settler.noted([Record("task", "STARTED", b"{}")])
    eventually(lambda: stores.results.calls["store"] >= 3)
    assert stores.results.fetch(["task"])["task"].state == "SUCCESS", "a final state stays"


def test_notes_that_cannot_be_stored_are_only_that(stores: Stores) -> None:
    stores.results.fail("store")
    stores.settler.start()
    stores.settler.noted([Record("task", "STARTED", b"{}")])
    eventually(lambda: stores.results.calls["store"] == 1)
    delivery = stores.deliver()
    stores.settler.ended([stores.settlement(delivery)])
    eventually(lambda: not stores.held.all())


@pytest.mark.parametrize("how", ["fail", "lose_reply"])
@pytest.mark.parametrize("step", ["store", "publish", "settle"])
def test_a_whole_worker_with_split_stores(step: str, how: str) -> None:
    app = Celeriac(
        "split", broker="memory://split-q", backend="memory://split-r", set_as_current=False
    )
    queue = MemoryFamily("memory://split-q", {"private": True})
    store = MemoryFamily("memory://split-r", {"private": True})
    app._families.update({"memory://split-q": queue, "memory://split-r": store})
    broker, results = FlakyBroker(queue.broker()), FlakyResults(store.results())
    app._broker, app._results = broker, results
    runs: list[int] = []
    after: list[int] = []
    t = app.task(name="t")(lambda n: runs.append(n) or n)
    then = app.task(name="then")(after.append)
    with running_worker(app, in_memory=False):
        sent = [t.apply_async((n,), link=then.s()) for n in range(20)]
        getattr(broker if step != "store" else results, how)(step)
        more = [t.apply_async((n,), link=then.s(), retry=True) for n in range(20, 40)]
        values = [result.get(timeout=30) for result in sent + more]
        eventually(lambda: len(after) == 40)
        assert values == list(range(40))
        assert sorted(runs) == list(range(40)), "each ran once: only an outcome was held up"
        assert sorted(after) == list(range(40))
        eventually(lambda: broker.count(["celery"])["celery"].held == 0)
    assert broker.buried(limit=10) == []


def test_a_refused_part_fills_its_slot_all_the_same(stores: Stores) -> None:
    body = Envelope("body", "later", b"")
    stores.results.open_group(Group("g", 1, body, body))
    stores.broker.publish([Envelope("part", "q", b"")])
    [delivery] = stores.consumer.claim(1, wait=1.0)
    stores.held.claimed([delivery])
    record = Record("part", "SUCCESS", b"x" * 10)
    real = stores.results._results.store

    def store(records: Any) -> None:
        if any(one.body for one in records):
            raise BrokerRejected("too large, as the test wants it")
        real(records)

    stores.results._results.store = store  # type: ignore[method-assign]
    stores.settler.start()
    settled = Settlement(delivery, Verdict.ACK, record=record, part=Part("g", 0, record))
    stores.settler.ended([settled])
    eventually(lambda: not stores.held.all())
    [filled] = stores.results.parts("g")
    assert (filled.state, filled.body) == ("FAILURE", None)
    assert [one.id for one in stores.broker.peek("later", limit=9)] == ["body"]
