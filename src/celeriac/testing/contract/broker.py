"""What every broker does.

Owns: BrokerContract.
May import: everything.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from celeriac.kernel.errors import BrokerRejected
from celeriac.kernel.message import Delivery, Envelope, Group, Part, Record, Settlement, Verdict
from celeriac.ports.broker import Broker, TakesBack
from celeriac.ports.results import ResultBackend
from celeriac.testing.contract.broker_bench import BrokerBench, MakeConsumer, ack, ids, task
from celeriac.testing.contract.broker_model import BrokerMachine
from celeriac.testing.eventually import eventually, in_thread, quickest


class BrokerContract(BrokerBench):
    """Subclass it and give a fixture `family`."""

    # Publish and claim

    def test_open_and_close_may_be_repeated(self, broker: Broker) -> None:
        """Open and close may be repeated."""
        broker.open()
        broker.close()
        broker.close()

    def test_empty_batches(self, broker: Broker, consume: MakeConsumer) -> None:
        """Empty batches."""
        consumer = consume()
        broker.publish([])
        broker.declare([])
        assert list(consumer.settle([])) == []
        assert list(consumer.extend([], lease=1)) == []
        assert list(consumer.claim(5, wait=0)) == []
        assert list(broker.requeue([])) == list(broker.drop([])) == []
        assert broker.purge("unknown") == 0

    @pytest.mark.parametrize("name", ["ünï-任务-🎉", "x" * 250, "a b/c:d*{e}'\"%_", "0", "\x01\t"])
    def test_every_field_arrives(self, broker: Broker, consume: MakeConsumer, name: str) -> None:
        """Every field arrives."""
        queue = f"q-{name}"[:200]
        sent = Envelope(name, queue, bytes(range(256)), 7, 1.25, 2_000_000_000.5, 3)
        broker.publish([sent])
        before = time.monotonic()
        got = self.one(consume(queue, lease=60))
        assert got.envelope == sent
        assert got.handed_out == 1
        if broker.caps.lease == "timed":
            assert before < got.lease_until <= time.monotonic() + 60

    def test_a_big_body(self, broker: Broker, consume: MakeConsumer) -> None:
        """A big body."""
        big = Envelope("big", "q", random.Random(1).randbytes(5_000_000))
        if broker.caps.max_body is not None and broker.caps.max_body < len(big.body):
            pytest.skip("larger than max_body")
        broker.publish([big])
        assert self.one(consume()).envelope.body == big.body

    def test_the_queue_keeps_a_copy(self, broker: Broker, consume: MakeConsumer) -> None:
        """The queue keeps a copy."""
        mine, consumer = task(), consume()
        broker.publish([mine])
        mine.body = b"changed"
        got = self.one(consumer)
        got.envelope.body = b"changed too"
        consumer.settle([Settlement(got, Verdict.RELEASE)])
        assert self.one(consumer).envelope == task()

    def test_order_is_kept(self, broker: Broker, consume: MakeConsumer) -> None:
        """Order is kept."""
        broker.publish([task(n) for n in range(50)])
        for n in range(50, 100):
            broker.publish([task(n)])
        consumer, got = consume(), []
        while taken := consumer.claim(7, wait=0):
            assert len(taken) <= 7
            got += ids(taken)
        assert got == [str(n) for n in range(100)]

    def test_nine_comes_first(self, broker: Broker, consume: MakeConsumer) -> None:
        """Nine comes first."""
        if broker.caps.priorities < 10:
            pytest.skip("fewer priorities")
        broker.publish([task(f"{n % 10}.{n}", priority=n % 10) for n in range(30)])
        expected = [f"{p}.{n}" for p in range(9, -1, -1) for n in range(p, 30, 10)]
        consumer = consume()
        assert ids(consumer.claim(15, wait=0)) + ids(consumer.claim(50, wait=0)) == expected

    def test_priority_goes_across_queues(self, broker: Broker, consume: MakeConsumer) -> None:
        """Priority goes across queues."""
        if broker.caps.priorities < 10:
            pytest.skip("fewer priorities")
        broker.publish([task("a1", "a", 1), task("b9", "b", 9), task("a5", "a", 5)])
        assert ids(consume("a", "b").claim(3, wait=0)) == ["b9", "a5", "a1"]

    def test_only_its_queues(self, broker: Broker, consume: MakeConsumer) -> None:
        """Only its queues."""
        broker.publish([task("a", "a"), task("b", "b"), task("c", "c")])
        consumer = consume("a")
        assert ids(consumer.claim(9, wait=0)) == ["a"]
        consumer.watch(["b", "d"])
        assert ids(consumer.claim(9, wait=0)) == ["b"]
        broker.publish([task("a2", "a"), task("d", "d")])
        assert ids(consumer.claim(9, wait=1)) == ["d"]

    def test_published_twice_is_once(self, broker: Broker, consume: MakeConsumer) -> None:
        """Published twice is once."""
        self.need(broker, "dedupes_ids")
        consumer = consume()
        broker.publish([task(), task()])
        broker.publish([task()])
        held = self.one(consumer)
        broker.publish([task()])
        assert list(consumer.claim(1, wait=0)) == []
        consumer.settle(ack(held))
        assert list(consumer.claim(1, wait=0)) == []
        broker.publish([task()])
        assert ids(consumer.claim(2, wait=0)) == ["t"]

    def test_a_refused_batch_leaves_nothing(self, broker: Broker) -> None:
        """A refused batch leaves nothing."""
        bad = self.refused()
        if bad is None:
            pytest.skip("this driver refuses nothing")
        with pytest.raises(BrokerRejected):
            broker.publish([task("good"), bad])
        assert broker.count(["q"])["q"].ready == 0

    def test_no_delivery_is_held_twice(self, broker: Broker, consume: MakeConsumer) -> None:
        """No delivery is held twice."""
        total, held, seen = 400, set[str](), Counter[str]()
        lock = threading.Lock()
        broker.publish([task(n, priority=n % 3) for n in range(total // 2)])

        def work() -> None:
            consumer, chance = consume(), random.Random()
            deadline = time.monotonic() + 60
            while sum(seen.values()) < total and time.monotonic() < deadline:
                taken = consumer.claim(chance.randint(1, 9), wait=0.05)
                with lock:
                    assert not held & set(ids(taken)), "two hold one delivery"
                    held.update(ids(taken))
                with lock:
                    held.difference_update(ids(taken))
                    seen.update(ids(taken))
                assert list(consumer.settle(ack(*taken))) == []

        with in_thread(work), in_thread(work), in_thread(work), in_thread(work):
            for n in range(total // 2, total):
                broker.publish([task(n)])
        assert len(seen) == total
        assert set(seen.values()) == {1}

    # Waiting

    def test_claim_gives_up(self, consume: MakeConsumer) -> None:
        """Claim gives up."""
        began = time.monotonic()
        assert list(consume().claim(1, wait=0.2)) == []
        assert 0.15 <= time.monotonic() - began < 5

    def test_wake_ends_a_claim(self, consume: MakeConsumer) -> None:
        """Wake ends a claim."""
        consumer = consume()

        def measure() -> float:
            with in_thread(lambda: list(consumer.claim(1, wait=10))) as later:
                time.sleep(0.05)
                woken = time.monotonic()
                consumer.wake()
                assert later.value() == []
            return later.ended_at - woken

        assert quickest(measure, enough=self.wake_bound) <= self.wake_bound

    def test_work_ends_a_claim(self, broker: Broker, consume: MakeConsumer) -> None:
        """Work ends a claim."""
        self.need(broker, "wakes")
        consumer = consume()
        best = quickest(
            lambda: self.wakes(consumer, lambda: broker.publish([task()])), enough=self.wake_bound
        )
        assert best <= self.wake_bound

    @pytest.mark.parametrize("verdict", [Verdict.RELEASE, Verdict.LOST, Verdict.RETRY])
    def test_what_is_given_back_ends_a_claim(
        self, broker: Broker, consume: MakeConsumer, verdict: Verdict
    ) -> None:
        """What is given back ends a claim."""
        self.need(broker, "wakes")
        one, other = consume(), consume()
        broker.publish([task()])
        end = Settlement(self.one(one), verdict, again=task())
        assert self.wakes(other, lambda: one.settle([end])) < 2

    # Delay

    def test_never_early_and_not_late(self, broker: Broker, consume: MakeConsumer) -> None:
        """Never early and not late."""
        delays = [0.5, 0.2, 0.9, 0.21, 0.7]
        sent = {str(delay): task(delay, delay=delay) for delay in delays}
        broker.publish(list(sent.values()))
        consumer = consume()
        got: list[str] = []
        while len(got) < len(delays):
            taken = consumer.claim(9, wait=5)
            now = time.time()
            assert taken, "a delayed envelope did not come"
            for name in ids(taken):
                assert now >= sent[name].not_before
                assert now < sent[name].not_before + 2
            got += ids(taken)
        if broker.caps.delay == "native":
            assert sorted(got) == sorted(sent)

    def test_retry_may_be_delayed(self, broker: Broker, consume: MakeConsumer) -> None:
        """Retry may be delayed."""
        consumer = consume()
        broker.publish([task()])
        again = task(delay=0.4)
        consumer.settle([Settlement(self.one(consumer), Verdict.RETRY, again=again)])
        assert self.one(consumer).envelope == again
        assert time.time() >= again.not_before

    # Settle

    def test_acked_is_gone(self, broker: Broker, consume: MakeConsumer) -> None:
        """Acked is gone."""
        consumer = consume()
        broker.publish([task(n) for n in range(3)])
        held = consumer.claim(3, wait=1)
        assert list(consumer.settle(ack(*held))) == []
        assert list(consumer.claim(3, wait=0)) == []
        assert broker.count(["q"])["q"].held == 0

    def test_settled_twice_is_told(self, broker: Broker, consume: MakeConsumer) -> None:
        """Settled twice is told."""
        consumer = consume()
        broker.publish([task("a"), task("b")])
        one, two = consumer.claim(2, wait=1)
        assert list(consumer.settle(ack(one))) == []
        # The other one in the batch is settled all the same.
        assert list(consumer.settle(ack(one, two))) == [one]
        assert broker.count(["q"])["q"].held == 0

    def test_release_keeps_order_and_count(self, broker: Broker, consume: MakeConsumer) -> None:
        """Release keeps order and count."""
        consumer = consume()
        broker.publish([task(n) for n in range(4)])
        held = consumer.claim(2, wait=1)
        assert list(consumer.settle([Settlement(d, Verdict.RELEASE) for d in held])) == []
        again = consumer.claim(4, wait=1)
        if broker.caps.keeps_place:
            assert ids(again) == ["0", "1", "2", "3"]
        assert sorted(ids(again)) == ["0", "1", "2", "3"]
        assert [one.handed_out for one in again] == [1, 1, 1, 1]

    def test_lost_is_counted(self, broker: Broker, consume: MakeConsumer) -> None:
        """Lost is counted."""
        consumer = consume()
        broker.publish([task()])
        for expected in (1, 2, 3):
            held = self.one(consumer)
            if broker.caps.counts_deliveries:
                assert held.handed_out == expected
            else:
                assert held.handed_out == min(expected, 2)
            consumer.settle([Settlement(held, Verdict.LOST)])
        held = self.one(consumer)
        consumer.settle([Settlement(held, Verdict.RELEASE)])
        assert self.one(consumer).handed_out == held.handed_out

    def test_retry_begins_anew(self, broker: Broker, consume: MakeConsumer) -> None:
        """Retry begins anew."""
        consumer = consume("q", "other")
        broker.publish([task()])
        consumer.settle([Settlement(self.one(consumer), Verdict.LOST)])
        again = Envelope("t", "other", b"again", 4, attempt=1)
        consumer.settle([Settlement(self.one(consumer), Verdict.RETRY, again=again)])
        got = self.one(consumer)
        assert (got.envelope, got.handed_out) == (again, 1)
        assert list(consumer.claim(1, wait=0)) == []

    def test_few_suspects_at_a_time(self, broker: Broker, consume: MakeConsumer) -> None:
        """Few suspects at a time."""
        consumer = consume()
        broker.publish([task(f"s{n}") for n in range(3)])
        held = consumer.claim(3, wait=1)
        consumer.settle([Settlement(one, Verdict.LOST) for one in held])
        broker.publish([task(f"c{n}") for n in range(3)])
        assert ids(consumer.claim(9, wait=0, suspects=0)) == ["c0", "c1", "c2"]
        assert len(consumer.claim(9, wait=0)) == 1
        assert len(consumer.claim(9, wait=0, suspects=2)) == 2

    def test_follow_ups_go_with_it(self, broker: Broker, consume: MakeConsumer) -> None:
        """Follow ups go with it."""
        consumer = consume()
        broker.publish([task("a")])
        # The same id may come again at once: a task that replaces itself keeps its id.
        follow_ups = (task("b"), task("c", delay=1000), task("a"))
        held = self.one(consumer)
        consumer.settle([Settlement(held, Verdict.ACK, publish=follow_ups)])
        assert ids(consumer.claim(9, wait=1)) == ["b", "a"]
        if broker.caps.counts == "all":
            assert broker.count(["q"])["q"].delayed == 1

    def test_follow_ups_are_published_once(self, broker: Broker, consume: MakeConsumer) -> None:
        """Follow ups are published once."""
        self.need(broker, "dedupes_ids")
        consumer = consume()
        broker.publish([task("a"), task("b"), task("child")])
        one, two = (self.one(consumer) for _ in range(2))
        end = [Settlement(d, Verdict.ACK, publish=(task("child"),)) for d in (one, two)]
        assert list(consumer.settle(end)) == []
        assert ids(consumer.claim(9, wait=0)) == ["child"]

    # What is settled together with the results

    def test_the_record_goes_with_it(
        self, broker: Broker, results: ResultBackend, consume: MakeConsumer
    ) -> None:
        """The record goes with it."""
        consumer, watch = consume(), results.watch()
        broker.publish([task()])
        watch.add(["t"])
        record = Record("t", "SUCCESS", b"4")
        consumer.settle([Settlement(self.one(consumer), Verdict.ACK, record=record)])
        assert results.fetch(["t"]) == {"t": record}
        assert eventually(lambda: watch.poll(1)) == {"t": record}
        watch.close()

    def test_a_settled_record_obeys_the_rule(
        self, broker: Broker, results: ResultBackend, consume: MakeConsumer
    ) -> None:
        """A settled record obeys the rule."""
        consumer = consume()
        results.store([Record("t", "REVOKED", b"first")])
        broker.publish([task()])
        held = self.one(consumer)
        end = Settlement(held, Verdict.ACK, record=Record("t", "SUCCESS", b"4", (5, 5)))
        assert list(consumer.settle([end])) == []
        assert results.fetch(["t"])["t"].state == "REVOKED"
        assert broker.count(["q"])["q"].held == 0

    @pytest.mark.parametrize(("state", "follow_up"), [("SUCCESS", "body"), ("FAILURE", "error")])
    def test_the_last_part_publishes_the_body(
        self,
        broker: Broker,
        results: ResultBackend,
        consume: MakeConsumer,
        state: str,
        follow_up: str,
    ) -> None:
        """The last part publishes the body."""
        consumer = consume()
        results.open_group(Group("g", 3, task("body"), task("error")))
        broker.publish([task(n) for n in range(3)])
        ends = []
        for index, held in enumerate(consumer.claim(3, wait=1)):
            record = Record(held.envelope.id, state, str(index).encode())
            ends.append(Settlement(held, Verdict.ACK, record=record, part=Part("g", index, record)))
        consumer.settle(ends[:2])
        assert list(consumer.claim(1, wait=0)) == []
        consumer.settle(ends[2:])
        assert ids(consumer.claim(9, wait=1)) == [follow_up]
        # It is marked sent: whoever fills a part once more does not publish it again.
        part = ends[0].part
        assert part is not None
        assert list(results.close_parts([part])) == []
        assert [one.body for one in results.parts("g")] == [b"0", b"1", b"2"]

    def test_a_stale_settle_writes_nothing(
        self, broker: Broker, results: ResultBackend, consume: MakeConsumer
    ) -> None:
        """A stale settle writes nothing."""
        results.open_group(Group("g", 1, task("body"), task("error")))
        broker.publish([task()])
        holder, other = consume(lease=self.short_lease), consume()
        old, new = self.lose(broker, holder, other)
        record = Record("t", "SUCCESS", b"old")
        end = Settlement(
            old, Verdict.ACK, record=record, part=Part("g", 0, record), publish=(task("child"),)
        )
        assert list(holder.settle([end])) == [old]
        assert results.fetch(["t"]) == {}
        assert list(results.parts("g")) == []
        assert broker.count(["q"])["q"].ready == 0
        assert list(other.settle(ack(new))) == []

    # Leases

    @pytest.mark.parametrize("verdict", list(Verdict))
    def test_an_expired_holder_is_told(
        self, broker: Broker, consume: MakeConsumer, verdict: Verdict
    ) -> None:
        """An expired holder is told."""
        broker.publish([task()])
        holder, other = consume(lease=self.short_lease), consume()
        old, new = self.lose(broker, holder, other)
        assert new.envelope == old.envelope
        assert new.handed_out == 2
        assert list(holder.settle([Settlement(old, verdict, again=task(), reason="x")])) == [old]
        found = broker.count(["q"])["q"]
        assert (found.ready, found.delayed, found.held) == (0, 0, 1)
        assert list(broker.buried(limit=9)) == []
        assert list(other.settle(ack(new))) == []
        # It has been settled by its holder and is not told to anyone again.
        assert list(holder.settle(ack(old))) == [old]

    def test_extend_names_the_lost(self, broker: Broker, consume: MakeConsumer) -> None:
        """Extend names the lost."""
        broker.publish([task("t")])
        holder, other = consume(lease=self.short_lease), consume()
        old, new = self.lose(broker, holder, other)
        broker.publish([task("u"), task("v")])
        kept, done = holder.claim(2, wait=1)
        holder.settle(ack(done))
        before = time.monotonic()
        assert list(holder.extend([old, kept, done], lease=50)) == [old, done]
        assert before + 49 < kept.lease_until <= time.monotonic() + 50
        assert list(other.extend([new], lease=50)) == []

    def test_an_extended_lease_lasts(self, broker: Broker, consume: MakeConsumer) -> None:
        """An extended lease lasts."""
        broker.publish([task()])
        holder, other = consume(lease=self.short_lease), consume()
        held = self.one(holder)
        until = time.monotonic() + 4 * self.short_lease
        while time.monotonic() < until:
            assert list(holder.extend([held], lease=5)) == []
            broker.upkeep(time.time())
            assert list(other.claim(1, wait=0.05)) == []
        assert list(holder.settle(ack(held))) == []

    def test_close_gives_back_what_is_held(self, broker: Broker, consume: MakeConsumer) -> None:
        """Close gives back what is held."""
        broker.publish([task(n) for n in range(3)])
        gone = broker.consume(["q"], owner="gone", lease=600)
        held = gone.claim(2, wait=1)
        gone.close()
        other = consume()
        back: list[Delivery] = []

        def all_back() -> bool:
            back.extend(other.claim(9, wait=0.1, suspects=9))
            return len(back) == 3

        eventually(all_back)
        assert {one.envelope.id: one.handed_out for one in back} == {"0": 2, "1": 2, "2": 1}
        assert list(other.extend(held, lease=5)) == list(held)

    # Looking and taking back

    def test_declared_queues_are_known(self, broker: Broker) -> None:
        """Declared queues are known."""
        broker.declare(["a", "b"])
        broker.declare(["a"])
        found = broker.count([])
        assert {"a", "b"} <= set(found)
        assert (found["a"].ready, found["a"].oldest) == (0, 0)
        assert set(broker.count(["a", "unknown"])) == {"a", "unknown"}

    def test_count(self, broker: Broker, consume: MakeConsumer) -> None:
        """Count."""
        consumer = consume()
        broker.publish([task(n) for n in range(5)] + [task("late", delay=1000)])
        consumer.claim(2, wait=1)
        found = broker.count(["q"])["q"]
        assert (found.ready, found.held) == (3, 2)
        if broker.caps.counts == "ready":
            return
        assert found.delayed == 1
        assert 0 <= found.oldest < 30
        eventually(lambda: 0.05 < broker.count(["q"])["q"].oldest < 30)

    def test_peek(self, broker: Broker, consume: MakeConsumer) -> None:
        """Peek."""
        self.need(broker, "peeks")
        consumer = consume()
        broker.publish([task("held")])
        held = self.one(consumer)
        batch = [task(f"late{n}", delay=1000 + n) for n in range(2)]
        batch += [task(f"now{n}") for n in range(5)]
        broker.publish(batch)
        names = [f"now{n}" for n in range(5)] + ["late0", "late1"]
        assert [one.id for one in broker.peek("q", limit=100)] == names
        pages, after = [], None
        while page := broker.peek("q", limit=3, after=after):
            assert len(page) <= 3
            pages += [one.id for one in page]
            after = page[-1].id
        assert pages == names
        assert broker.peek("q", limit=1)[0] == task("now0")
        assert list(broker.peek("unknown", limit=1)) == []
        assert list(consumer.settle(ack(held))) == []

    def test_withdraw(self, broker: Broker, consume: MakeConsumer) -> None:
        """Withdraw."""
        self.need(broker, "withdraws")
        consumer = consume()
        broker.publish([task("held"), task("ready"), task("stays"), task("late", delay=1000)])
        held = self.one(consumer)
        asked = ["held", "ready", "late", "unknown"]
        assert sorted(broker.withdraw(asked)) == ["late", "ready"]
        assert list(broker.withdraw(asked)) == []
        broker.publish([task("ready")])
        assert ids(consumer.claim(9, wait=0)) == ["stays", "ready"]
        assert list(consumer.settle(ack(held))) == []

    def test_take_back(self, broker: Broker, consume: MakeConsumer) -> None:
        """Take back: as withdraw, with the envelopes themselves."""
        if not isinstance(broker, TakesBack):
            pytest.skip("the broker does not hand over what it withdraws")
        sent = [task("ready", priority=7), task("late", delay=1000), task("stays")]
        broker.publish(sent)
        taken = broker.take_back(["late", "unknown", "ready"])
        assert sorted(taken, key=lambda one: one.id) == [sent[1], sent[0]]
        assert list(broker.take_back(["late", "ready"])) == []
        assert ids(consume().claim(9, wait=0)) == ["stays"]

    def test_purge(self, broker: Broker, consume: MakeConsumer) -> None:
        """Purge."""
        consumer = consume("q", "other")
        broker.publish([task("held")])
        held = self.one(consumer)
        broker.publish([task("a"), task("b"), task("c", delay=1000), task("d", "other")])
        # What is delayed may lie where it cannot be told from that of other queues.
        assert broker.purge("q") == (3 if broker.caps.counts == "all" else 2)
        found = broker.count(["q"])["q"]
        assert (found.ready, found.delayed, found.held) == (0, 0, 1)
        assert ids(consumer.claim(9, wait=0)) == ["d"]
        assert list(consumer.settle(ack(held))) == []

    def test_bury_requeue_drop(self, broker: Broker, consume: MakeConsumer) -> None:
        """Bury requeue drop."""
        consumer = consume()
        for n in range(4):
            broker.publish([task(n)])
            consumer.settle([Settlement(self.one(consumer), Verdict.LOST)])
            end = Settlement(self.one(consumer), Verdict.BURY, reason=f"because {n}")
            assert list(consumer.settle([end])) == []
        assert list(consumer.claim(9, wait=0)) == []
        found = broker.buried(limit=9)
        assert [one.envelope for one in found] == [task(n) for n in range(4)]
        assert [one.reason for one in found] == [f"because {n}" for n in range(4)]
        assert [one.handed_out for one in found] == [2, 2, 2, 2]
        assert all(abs(time.time() - one.at) < 60 for one in found)
        assert [one.envelope.id for one in broker.buried(limit=2)] == ["0", "1"]
        assert [one.envelope.id for one in broker.buried(limit=2, after="1")] == ["2", "3"]
        assert sorted(broker.requeue(["1", "3", "unknown"])) == ["1", "3"]
        assert list(broker.requeue(["1"])) == []
        back = consumer.claim(9, wait=1)
        assert {one.envelope.id: one.handed_out for one in back} == {"1": 1, "3": 1}
        assert list(broker.drop(["0", "1", "unknown"])) == ["0"]
        assert [one.envelope.id for one in broker.buried(limit=9)] == ["2"]

    def test_a_drained_broker_is_empty(self, broker: Broker, consume: MakeConsumer) -> None:
        """A drained broker is empty."""
        consumer = consume()
        for _ in range(3):
            broker.publish([task(n, priority=n % 10) for n in range(100)])
            while taken := consumer.claim(30, wait=0):
                consumer.settle(ack(*taken))
        found = broker.count(["q"])["q"]
        assert (found.ready, found.delayed, found.held, found.oldest) == (0, 0, 0, 0)
        assert list(broker.buried(limit=9)) == []

    def test_it_behaves_as_the_model(self, broker: Broker) -> None:
        """It behaves as the model."""
        for feature in ("dedupes_ids", "withdraws", "counts_deliveries"):
            self.need(broker, feature)
        # Typed as a class, and called like one.
        make: Any = lambda: BrokerMachine(broker)  # noqa: E731
        run_state_machine_as_test(
            make,
            settings=settings(
                max_examples=40,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]
            ),
        )
