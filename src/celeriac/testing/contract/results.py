"""What every result store does.

Owns: ResultsContract.
May import: everything.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping

import pytest

from celeriac.kernel.message import Envelope, Group, Part, Record
from celeriac.ports.registry import Family
from celeriac.ports.results import GrowingGroups, ResultBackend, Watch
from celeriac.testing.eventually import eventually, in_thread, quickest

FINAL = ("SUCCESS", "FAILURE", "REVOKED")
UNREADY = ("PENDING", "RECEIVED", "STARTED", "RETRY", "PROGRESS")


def record(
    task_id: str = "t",
    state: str = "SUCCESS",
    body: bytes | None = b"{}",
    fence: tuple[int, int] = (0, 1),
    expires_at: float = 0.0,
) -> Record:
    """Return a record with what a test does not care about filled in."""
    return Record(task_id, state, body, fence, expires_at)


def group(group_id: str = "g", size: int = 2, expires_at: float = 0.0) -> Group:
    """Return a group whose follow-ups can be told apart."""
    body = Envelope(f"{group_id}-body", "q", b"body")
    on_error = Envelope(f"{group_id}-error", "q", b"error")
    return Group(group_id, size, body, on_error, expires_at)


def part(group_id: str, index: int, state: str = "SUCCESS", body: bytes = b"1") -> Part:
    """Return one finished member of a group."""
    return Part(group_id, index, record(f"{group_id}-{index}", state, body))


class ResultsContract:
    """Subclass it and give a fixture `family`."""

    wake_bound = 0.05

    @pytest.fixture
    def results(self, family: Family) -> Iterator[ResultBackend]:
        """Return the store under test, open."""
        results = family.results()
        results.open()
        yield results
        results.close()

    @pytest.fixture
    def needs_groups(self, results: ResultBackend) -> None:
        """Skip a test of what this store does not count."""
        if not results.caps.counts_groups:
            pytest.skip("no groups")

    def collect(self, watch: Watch, count: int) -> dict[str, Record]:
        """Poll until `count` results are final; none may be told twice."""
        found: dict[str, Record] = {}

        def more() -> bool:
            now: Mapping[str, Record] = watch.poll(0.5)
            assert not found.keys() & now.keys(), "a result was told twice"
            found.update(now)
            return len(found) >= count

        eventually(more)
        return found

    # Records

    def test_open_and_close_may_be_repeated(self, results: ResultBackend) -> None:
        """Open and close may be repeated."""
        results.open()
        assert results.name
        results.close()
        results.close()

    def test_what_is_stored_is_fetched(self, results: ResultBackend) -> None:
        """What is stored is fetched."""
        kept = record("t", "SUCCESS", bytes(range(256)), (3, 2), time.time() + 1000.25)
        results.store([kept])
        assert results.fetch(["t", "unknown"]) == {"t": kept}

    def test_no_body_is_not_an_empty_body(self, results: ResultBackend) -> None:
        """No body is not an empty body."""
        results.store([record("none", body=None), record("empty", body=b"")])
        found = results.fetch(["none", "empty"])
        assert found["none"].body is None
        assert found["empty"].body == b""

    def test_empty_batches(self, results: ResultBackend) -> None:
        """Empty batches."""
        results.store([])
        results.forget([])
        results.mark_sent([])
        assert results.fetch([]) == {}
        assert list(results.close_parts([])) == []
        assert list(results.parts("unknown")) == []

    @pytest.mark.parametrize(
        "task_id", ["ünïcödé-任务-🎉", "x" * 250, "a b/c:d*{e}'\"%_", "0", "\x01\t"]
    )
    def test_odd_ids(self, results: ResultBackend, task_id: str) -> None:
        """Odd ids."""
        results.store([record(task_id)])
        assert results.fetch([task_id]) == {task_id: record(task_id)}
        results.forget([task_id])
        assert results.fetch([task_id]) == {}

    def test_a_big_body(self, results: ResultBackend) -> None:
        """A big body."""
        body = bytes(range(256)) * 20_480
        results.store([record(body=body)])
        assert results.fetch(["t"])["t"].body == body

    def test_many_at_once(self, results: ResultBackend) -> None:
        """Many at once."""
        batch = [record(f"t{n}", body=str(n).encode()) for n in range(3000)]
        results.store(batch)
        assert results.fetch([one.id for one in batch]) == {one.id: one for one in batch}

    def test_the_store_keeps_a_copy(self, results: ResultBackend) -> None:
        """The store keeps a copy."""
        mine = record(state="STARTED")
        results.store([mine])
        mine.state = "SUCCESS"
        results.fetch(["t"])["t"].state = "FAILURE"
        assert results.fetch(["t"])["t"].state == "STARTED"

    @pytest.mark.parametrize("first", FINAL)
    @pytest.mark.parametrize("then", [*FINAL, "STARTED", "RETRY"])
    def test_a_final_record_stays(self, results: ResultBackend, first: str, then: str) -> None:
        """A final record stays."""
        results.store([record(state=first, body=b"first")])
        results.store([record(state=then, body=b"then", fence=(9, 9))])
        assert results.fetch(["t"])["t"] == record(state=first, body=b"first")

    @pytest.mark.parametrize("state", UNREADY)
    def test_an_unready_record_gives_way(self, results: ResultBackend, state: str) -> None:
        """An unready record gives way."""
        results.store([record(state=state, body=b"a")])
        results.store([record(state=state, body=b"b")])
        assert results.fetch(["t"])["t"].body == b"b"
        results.store([record()])
        assert results.fetch(["t"])["t"].state == "SUCCESS"

    @pytest.mark.parametrize(
        ("old", "new", "wins"),
        [
            ((0, 1), (0, 1), True),
            ((0, 1), (0, 2), True),
            ((0, 2), (0, 1), False),
            ((0, 5), (1, 1), True),
            ((1, 1), (0, 5), False),
            ((2, 10), (2, 9), False),
            ((9, 1), (10, 1), True),
        ],
    )
    @pytest.mark.parametrize("state", ["STARTED", "SUCCESS"])
    def test_an_older_fence_never_wins(
        self,
        results: ResultBackend,
        old: tuple[int, int],
        new: tuple[int, int],
        wins: bool,
        state: str,
    ) -> None:
        """An older fence never wins."""
        results.store([record(state="STARTED", body=b"old", fence=old)])
        results.store([record(state=state, body=b"new", fence=new)])
        assert results.fetch(["t"])["t"].body == (b"new" if wins else b"old")

    def test_the_rule_holds_inside_a_batch(self, results: ResultBackend) -> None:
        """The rule holds inside a batch."""
        results.store([record(state="STARTED"), record(body=b"1"), record(body=b"2")])
        assert results.fetch(["t"])["t"] == record(body=b"1")

    def test_a_final_record_stays_among_threads(self, results: ResultBackend) -> None:
        """A final record stays among threads."""
        gate = threading.Barrier(4)

        def write(n: int) -> None:
            gate.wait(10)
            for i in range(30):
                results.store([record(f"t{i}", body=str(n).encode())])
                seen[n].append(results.fetch([f"t{i}"])[f"t{i}"].body)

        seen: list[list[bytes | None]] = [[] for _ in range(4)]
        threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        last = results.fetch([f"t{i}" for i in range(30)])
        for column in seen:
            assert column == [last[f"t{i}"].body for i in range(30)]

    def test_forget(self, results: ResultBackend) -> None:
        """Forget."""
        results.store([record("a"), record("b")])
        results.forget(["a", "unknown"])
        assert set(results.fetch(["a", "b"])) == {"b"}
        results.store([record("a", "STARTED")])
        assert results.fetch(["a"])["a"].state == "STARTED"

    # Expiry

    def test_an_expired_record_is_not_known(self, results: ResultBackend) -> None:
        """An expired record is not known."""
        until = time.time() + 0.5
        results.store([record("soon", expires_at=until), record("late", expires_at=until + 1000)])
        results.store([record("never")])
        seen = results.fetch(["soon", "late", "never"])
        assert len(seen) == 3 or time.time() >= until, "gone before its time"
        eventually(lambda: "soon" not in results.fetch(["soon"]))
        assert time.time() >= until - 0.01
        assert set(results.fetch(["soon", "late", "never"])) == {"late", "never"}

    def test_expire_deletes_in_slices(self, results: ResultBackend) -> None:
        """Expire deletes in slices."""
        now = time.time()
        results.store([record(f"old{n}", expires_at=now - 100 + n) for n in range(5)])
        results.store([record("new", expires_at=now + 1000), record("never")])
        counts = results.caps.counts_groups
        if counts:
            results.open_group(group("old", expires_at=now - 100))
            results.open_group(group("new"))
            results.close_parts([part("old", 0), part("new", 0)])
        # A store that lets go by itself has nothing left to count.
        gone = [results.expire(now, limit=2) for _ in range(5)]
        assert all(0 <= count <= 2 for count in gone)
        assert sum(gone) <= 6
        assert gone[-1] == 0
        assert set(results.fetch([*(f"old{n}" for n in range(5)), "new", "never"])) == {
            "new",
            "never",
        }
        assert list(results.parts("old")) == []
        assert not counts or len(list(results.parts("new"))) == 1

    def test_expire_leaves_what_expires_later(self, results: ResultBackend) -> None:
        """Expire leaves what expires later."""
        now = time.time()
        results.store([record(expires_at=now + 1000)])
        assert results.expire(now, limit=100) == 0
        assert results.fetch(["t"])

    # Groups

    @pytest.mark.usefixtures("needs_groups")
    def test_a_full_group_is_ready(self, results: ResultBackend) -> None:
        """A full group is ready."""
        results.open_group(group(size=3))
        assert list(results.close_parts([part("g", 2), part("g", 0)])) == []
        (ready,) = results.close_parts([part("g", 1)])
        assert (ready.group, ready.envelope) == ("g", group().body)

    @pytest.mark.usefixtures("needs_groups")
    def test_several_groups_at_once(self, results: ResultBackend) -> None:
        """Several groups at once."""
        for name in "abc":
            results.open_group(group(name, size=2))
        batch = [part(name, index) for name in "ab" for index in range(2)] + [part("c", 0)]
        assert sorted(one.group for one in results.close_parts(batch)) == ["a", "b"]

    @pytest.mark.usefixtures("needs_groups")
    def test_a_slot_is_filled_once(self, results: ResultBackend) -> None:
        """A slot is filled once."""
        results.open_group(group(size=2))
        for body in (b"first", b"again"):
            assert list(results.close_parts([part("g", 0, body=body)])) == []
        results.close_parts([part("g", 1)])
        results.close_parts([part("g", 0, "FAILURE", b"late")])
        assert [one.body for one in results.parts("g")] == [b"first", b"1"]
        (ready,) = results.close_parts([part("g", 1)])
        assert ready.envelope.id == "g-body"

    @pytest.mark.usefixtures("needs_groups")
    def test_ready_until_marked_sent(self, results: ResultBackend) -> None:
        """Ready until marked sent."""
        results.open_group(group(size=1))
        for _ in range(3):
            assert [one.group for one in results.close_parts([part("g", 0)])] == ["g"]
        results.mark_sent(["g", "unknown"])
        results.mark_sent(["g"])
        assert list(results.close_parts([part("g", 0)])) == []
        assert len(list(results.parts("g"))) == 1

    @pytest.mark.usefixtures("needs_groups")
    @pytest.mark.parametrize("state", ["FAILURE", "REVOKED"])
    def test_a_failed_part_makes_it_on_error(self, results: ResultBackend, state: str) -> None:
        """A failed part makes it on error."""
        results.open_group(group(size=2))
        assert list(results.close_parts([part("g", 0, state)])) == []
        (ready,) = results.close_parts([part("g", 1)])
        assert ready.envelope == group().on_error

    @pytest.mark.usefixtures("needs_groups")
    def test_a_group_grows(self, results: ResultBackend) -> None:
        """A group grows, where the store can."""
        if not isinstance(results, GrowingGroups):
            pytest.skip("its groups do not grow")
        results.open_group(group(size=1))
        assert results.grow_group("g", 2) == 1
        assert results.grow_group("g", 1, once="a") == 3
        assert results.grow_group("g", 1, once="a") == 3
        assert list(results.close_parts([part("g", n) for n in range(3)])) == []
        assert [one.group for one in results.close_parts([part("g", 3)])] == ["g"]
        results.mark_sent(["g"])
        assert results.grow_group("g", 1) == -1
        assert results.grow_group("unknown", 1) == -1

    @pytest.mark.usefixtures("needs_groups")
    def test_a_second_open_does_nothing(self, results: ResultBackend) -> None:
        """A second open does nothing."""
        results.open_group(group(size=2))
        results.close_parts([part("g", 0)])
        results.open_group(group(size=1))
        assert len(list(results.parts("g"))) == 1
        assert [one.group for one in results.close_parts([part("g", 1)])] == ["g"]

    @pytest.mark.usefixtures("needs_groups")
    def test_parts_come_in_order(self, results: ResultBackend) -> None:
        """Parts come in order."""
        results.open_group(group(size=12))
        for index in (11, 3, 0, 10, 2):
            results.close_parts([part("g", index, body=str(index).encode())])
        assert [one.body for one in results.parts("g")] == [b"0", b"2", b"3", b"10", b"11"]
        assert next(iter(results.parts("g"))) == record("g-0", body=b"0")

    @pytest.mark.usefixtures("needs_groups")
    def test_parts_of_no_group(self, results: ResultBackend) -> None:
        """Parts of no group."""
        assert list(results.close_parts([part("unknown", 0)])) == []

    @pytest.mark.usefixtures("needs_groups")
    def test_many_threads_fill_one_group(self, results: ResultBackend) -> None:
        """Many threads fill one group."""
        size = 60
        results.open_group(group(size=size))
        ready: list[str] = []

        def fill(first: int) -> None:
            for index in range(first, size, 4):
                ready.extend(one.group for one in results.close_parts([part("g", index)]))

        threads = [threading.Thread(target=fill, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        # Several may see it full before anyone has marked it; none may miss it.
        assert ready
        assert set(ready) == {"g"}
        assert len(list(results.parts("g"))) == size

    # Watches

    def test_watch_what_is_final_already(self, results: ResultBackend) -> None:
        """Watch what is final already."""
        results.store([record("a"), record("b", "STARTED")])
        watch = results.watch()
        watch.add(["a", "b"])
        assert self.collect(watch, 1) == {"a": record("a")}
        assert watch.poll(0) == {}
        watch.close()

    @pytest.mark.parametrize("state", FINAL)
    def test_watch_what_becomes_final(self, results: ResultBackend, state: str) -> None:
        """Watch what becomes final."""
        watch = results.watch()
        watch.add(["t"])
        results.store([record(state="STARTED")])
        assert watch.poll(0) == {}
        with in_thread(lambda: self.collect(watch, 1)) as later:
            results.store([record(state=state)])
            assert later.value() == {"t": record(state=state)}
        watch.close()

    def test_a_final_result_ends_a_poll_soon(self, results: ResultBackend) -> None:
        """A final result ends a poll soon."""
        names = iter(f"t{n}" for n in range(100))
        watch = results.watch()

        def measure() -> float:
            name = next(names)
            watch.add([name])
            with in_thread(lambda: self.collect(watch, 1)) as later:
                time.sleep(0.05)
                stored = time.monotonic()
                results.store([record(name)])
                assert later.value() == {name: record(name)}
            return later.ended_at - stored

        assert quickest(measure, enough=self.wake_bound) <= self.wake_bound
        watch.close()

    def test_poll_gives_up(self, results: ResultBackend) -> None:
        """Poll gives up."""
        watch = results.watch()
        watch.add(["t"])
        watch.poll(0)
        began = time.monotonic()
        assert watch.poll(0.2) == {}
        assert 0.15 <= time.monotonic() - began < 5
        watch.close()

    def test_add_ends_a_poll(self, results: ResultBackend) -> None:
        """Add ends a poll."""
        results.store([record("done")])
        watch = results.watch()
        watch.add(["t"])
        watch.poll(0)
        with in_thread(lambda: self.collect(watch, 1)) as later:
            time.sleep(0.05)
            added = time.monotonic()
            watch.add(["done"])
            assert later.value() == {"done": record("done")}
        assert later.ended_at - added < 1
        with in_thread(lambda: watch.poll(10)) as later:
            time.sleep(0.05)
            added = time.monotonic()
            watch.add(["unknown"])
            assert later.value() == {}
        assert later.ended_at - added < 1
        watch.close()

    def test_a_discarded_id_is_not_told(self, results: ResultBackend) -> None:
        """A discarded id is not told."""
        watch = results.watch()
        watch.add(["a", "b"])
        watch.discard(["a", "unknown"])
        results.store([record("a"), record("b")])
        assert set(self.collect(watch, 1)) == {"b"}
        assert watch.poll(0.1) == {}
        watch.close()

    def test_many_ids_and_several_watches(self, results: ResultBackend) -> None:
        """Many ids and several watches."""
        ids = [f"t{n}" for n in range(2000)]
        one, two = results.watch(), results.watch()
        one.add(ids)
        two.add(ids[::2])
        for first in range(0, 2000, 500):
            results.store([record(name) for name in ids[first : first + 500]])
        assert set(self.collect(one, 2000)) == set(ids)
        assert set(self.collect(two, 1000)) == set(ids[::2])
        one.close()
        two.close()
