"""What every pool does.

Owns: PoolContract, Heard, Gate, Runner, make_run, delivery.
May import: everything.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path

import pytest

from celeriac.kernel.errors import Terminated, WorkerLostError
from celeriac.kernel.events import Line
from celeriac.kernel.message import Delivery, Envelope, Record, Settlement, Verdict
from celeriac.ports.pool import MakeRun, Pool, Run, TaskFrame
from celeriac.testing.eventually import eventually, in_thread

MARK: ContextVar[bytes] = ContextVar("MARK", default=b"")
"""What each `Runner` sets at the start, and each task that says `mark` for itself."""


def delivery(task_id: str, body: bytes = b"") -> Delivery:
    """Return a delivery whose body says what its run does, see `Runner`."""
    return Delivery(Envelope(task_id, "q", body), None, float("inf"))


def deliveries(name: str, count: int, body: bytes = b"") -> list[Delivery]:
    """Return several, called `name-0`, `name-1`, ..."""
    return [delivery(f"{name}-{index}", body) for index in range(count)]


def ids(batch: Sequence[Delivery]) -> list[str]:
    """Return the task ids of a batch."""
    return [one.envelope.id for one in batch]


class Gate:
    """A file that holds tasks up, in this process or another, until the test makes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.held = f"hold {path}".encode()
        """The body of a task that waits here."""

    def open(self) -> None:
        """Let all through."""
        self.path.touch()

    def begun(self) -> set[str]:
        """Return the ids of the tasks that came here."""
        before = f"{self.path.name}.begun."
        names = (path.name for path in self.path.parent.iterdir())
        return {name.removeprefix(before) for name in names if name.startswith(before)}

    def passed(self) -> set[str]:
        """Return the ids of the tasks that went through."""
        before = f"{self.path.name}.passed."
        names = (path.name for path in self.path.parent.iterdir())
        return {name.removeprefix(before) for name in names if name.startswith(before)}


class Runner:
    """Does what a body says: `sleep 0.2`, `pid`, `note`, `mark X`, `raise`, `exit`, `hold FILE`, `crowd DIR`.

    What it returns is the body of the settlement's record.
    """

    def __init__(self, frame: TaskFrame) -> None:
        self.frame = frame
        MARK.set(b"the start")

    def __call__(self, delivery: Delivery) -> Settlement:
        words = delivery.envelope.body.split(b" ", 1)
        return self.settled(delivery, self.do(delivery, words[0], words[-1]))

    def settled(self, delivery: Delivery, text: bytes) -> Settlement:
        """Return the settlement of a delivery that went well."""
        done = Record(delivery.envelope.id, "SUCCESS", text)
        return Settlement(delivery, Verdict.ACK, record=done)

    def do(self, delivery: Delivery, verb: bytes, rest: bytes) -> bytes:
        """Do one thing; override it for more verbs."""
        task_id = delivery.envelope.id
        if verb == b"sleep":
            time.sleep(float(rest))
        elif verb == b"pid":
            return b"%d" % os.getpid()
        elif verb == b"note":
            self.frame.noted([Record(task_id, "PROGRESS", b"half")])
        elif verb == b"tell":
            self.frame.told([b"begun", b"done"])
        elif verb == b"mark":
            before = MARK.get()
            MARK.set(rest)
            return before
        elif verb == b"raise":
            raise RuntimeError("out of the pool")
        elif verb == b"exit":
            raise SystemExit(3)
        elif verb == b"hold":
            path = rest.decode()
            Path(f"{path}.begun.{task_id}").touch()
            while not Path(path).exists():
                time.sleep(0.002)
            Path(f"{path}.passed.{task_id}").touch()
        elif verb == b"crowd":
            mine = Path(rest.decode(), task_id)
            mine.touch()
            count = len(list(mine.parent.iterdir()))
            time.sleep(0.003)
            mine.unlink()
            return b"%d" % count
        return b""

    def is_async(self, delivery: Delivery) -> bool:
        """Tell whether an asyncio pool may await it: where the body begins with `async`."""
        return delivery.envelope.body.startswith(b"async ")

    async def run_async(self, delivery: Delivery) -> Settlement:
        """Do on a loop what the rest of the body says, and wait without blocking it."""
        verb, _, rest = delivery.envelope.body.removeprefix(b"async ").partition(b" ")
        task_id, path = delivery.envelope.id, rest.decode()
        text = b""
        if verb == b"sleep":
            await asyncio.sleep(float(rest))
        elif verb == b"hold":
            Path(f"{path}.begun.{task_id}").touch()
            while not Path(path).exists():
                await asyncio.sleep(0.002)
            Path(f"{path}.passed.{task_id}").touch()
        elif verb == b"crowd":
            mine = Path(path, task_id)
            mine.touch()
            text = b"%d" % len(list(mine.parent.iterdir()))
            await asyncio.sleep(0.003)
            mine.unlink()
        else:
            text = self.do(delivery, verb, rest)
        return self.settled(delivery, text)


def make_run(frame: TaskFrame) -> Run:
    """Return what runs the deliveries of this module."""
    return Runner(frame)


class Heard:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.settled: list[Settlement] = []
        self.back: list[Delivery] = []
        self.gone: list[tuple[Delivery, Exception]] = []
        self.notes: list[Record] = []
        self.events: list[Line] = []
        self.failures: list[str] = []

    def ended(self, batch: Sequence[Settlement]) -> None:
        """Keep what ended."""
        with self._lock:
            self.settled += batch

    def returned(self, batch: Sequence[Delivery]) -> None:
        """Keep what came back."""
        with self._lock:
            self.back += batch

    def lost(self, delivery: Delivery, error: Exception) -> None:
        """Keep what was lost."""
        with self._lock:
            self.gone.append((delivery, error))

    def told(self, batch: Sequence[Line]) -> None:
        """Keep events."""
        with self._lock:
            self.events += batch

    def failed(self, why: str) -> None:
        """Keep why the pool failed."""
        with self._lock:
            self.failures.append(why)

    def noted(self, batch: Sequence[Record]) -> None:
        """Keep the states."""
        with self._lock:
            self.notes += batch

    def ids(self) -> list[str]:
        """Return the ids of what ended, in this order."""
        with self._lock:
            return [one.delivery.envelope.id for one in self.settled]

    def texts(self) -> dict[str, bytes]:
        """Return what each delivery that ended had to say."""
        with self._lock:
            return {
                one.delivery.envelope.id: one.record.body or b"" if one.record else b""
                for one in self.settled
            }

    def errors(self) -> dict[str, Exception]:
        """Return what was lost, and why."""
        with self._lock:
            return {one.envelope.id: error for one, error in self.gone}

    def everything(self) -> list[str]:
        """Return the id of each delivery as often as it was told of, sorted."""
        with self._lock:
            told = [one.delivery.envelope.id for one in self.settled]
            told += ids(self.back)
            return sorted(told + [one.envelope.id for one, _ in self.gone])

    def wait(self, batch: Sequence[Delivery], within: float = 15.0) -> None:
        """Wait until each of a batch has ended well."""
        wanted = set(ids(batch))
        eventually(lambda: wanted <= set(self.ids()), within=within, every=0.005)


Start = Callable[[int], Pool]


class PoolContract:
    """Subclass it and give `new_pool`; say in the attributes what the pool is made for."""

    most = 2
    """Slots of the pool that most tests use."""
    resizes = True
    """Whether `resize` does anything."""
    verb = b""
    """Put before every body; `async ` for a pool that is to await them."""
    make_run: MakeRun = staticmethod(make_run)

    def new_pool(self, size: int) -> Pool:
        """Return a pool that is not started; override it."""
        raise NotImplementedError

    @pytest.fixture
    def heard(self) -> Heard:
        """Return the sink of the pool under test."""
        return Heard()

    @pytest.fixture
    def start(self, heard: Heard) -> Iterator[Start]:
        """Return what makes and starts a pool of a size; it is stopped at the end."""
        made: list[Pool] = []

        def start(size: int) -> Pool:
            pool = self.new_pool(size)
            pool.start(self.make_run, heard)
            made.append(pool)
            return pool

        yield start
        for pool in made:
            pool.stop(deadline=time.monotonic())

    @pytest.fixture
    def pool(self, start: Start) -> Pool:
        """Return a pool of `most` slots, started."""
        return start(self.most)

    @pytest.fixture
    def gate(self, tmp_path: Path) -> Iterator[Gate]:
        """Return a gate; it is open at the end, so that nothing waits for ever."""
        gate = Gate(tmp_path / "gate")
        yield gate
        gate.open()

    def some(self, name: str, count: int, body: bytes = b"") -> list[Delivery]:
        """Return deliveries in the form that this pool is made for."""
        return deliveries(name, count, self.verb + body)

    def fill(self, pool: Pool, gate: Gate, more: int = 0) -> list[Delivery]:
        """Occupy every slot, have `more` wait; return the batch once all slots are occupied."""
        batch = self.some("held", pool.size() + more, gate.held)
        pool.submit(batch)
        eventually(lambda: len(gate.begun()) >= pool.size(), every=0.005)
        return batch

    # Ends

    def test_what_a_task_sets_in_its_context_ends_with_it(self, pool: Pool, heard: Heard) -> None:
        """Each begins with what was set at the start, and sees nothing of those before it."""
        batch = deliveries("m", 6 * self.most, self.verb + b"mark of a task")
        for one in batch:
            pool.submit([one])
        heard.wait(batch)
        assert set(heard.texts().values()) == {b"the start"}

    def test_each_ends_once(self, pool: Pool, heard: Heard) -> None:
        """Each delivery ends exactly once, however it ends."""
        batch = [
            *self.some("a", 20),
            *self.some("b", 5, b"raise"),
            *self.some("c", 5, b"sleep 0.005"),
            *self.some("d", 20),
        ]
        pool.submit(batch)
        eventually(lambda: len(heard.everything()) >= len(batch))
        assert not pool.stop(deadline=time.monotonic() + 10)
        assert heard.everything() == sorted(ids(batch))
        assert set(heard.errors()) == {f"b-{index}" for index in range(5)}

    def test_the_settlement_is_of_the_very_delivery(self, pool: Pool, heard: Heard) -> None:
        """The settlement carries the delivery that was submitted, with its receipt."""
        one = self.some("one", 1)[0]
        one.receipt = receipt = object()
        pool.submit([one])
        heard.wait([one])
        (settlement,) = heard.settled
        assert settlement.delivery.receipt is receipt
        assert settlement.verdict is Verdict.ACK
        assert settlement.record == Record("one-0", "SUCCESS", b"")

    def test_two_thousand_in_one_batch(self, pool: Pool, heard: Heard) -> None:
        """2,000 that do nothing all end, once."""
        batch = self.some("n", 2000)
        pool.submit(batch)
        heard.wait(batch, within=30)
        assert heard.everything() == sorted(ids(batch))
        assert pool.free() == pool.size()

    def test_two_thousand_one_by_one(self, pool: Pool, heard: Heard) -> None:
        """2,000 that do nothing all end, once, where each is submitted by itself."""
        batch = self.some("n", 2000)
        for one in batch:
            pool.submit([one])
        heard.wait(batch, within=30)
        assert heard.everything() == sorted(ids(batch))

    def test_nothing_at_all(self, pool: Pool, heard: Heard) -> None:
        """An empty batch is no batch."""
        pool.submit([])
        assert pool.free() == pool.size()
        assert not heard.everything()

    # Slots

    def test_one_slot_keeps_the_order(self, start: Start, heard: Heard) -> None:
        """With one slot they end in the order of submission, across batches."""
        pool = start(1)
        first, second = self.some("a", 60), self.some("b", 60, b"sleep 0.001")
        pool.submit(first[:30])
        pool.submit(first[30:])
        pool.submit(second)
        heard.wait([*first, *second])
        assert heard.ids() == ids([*first, *second])

    def test_free_counts_what_runs_and_waits(self, pool: Pool, heard: Heard, gate: Gate) -> None:
        """`free` is what neither runs nor waits, and never less than none."""
        assert pool.size() == pool.free() == self.most
        batch = self.some("x", self.most + 3, gate.held)
        for taken, one in enumerate(batch, 1):
            pool.submit([one])
            assert pool.free() == max(0, self.most - taken)
        gate.open()
        heard.wait(batch)
        assert pool.free() == self.most

    def test_what_is_beyond_the_slots_waits(self, pool: Pool, heard: Heard, gate: Gate) -> None:
        """More than `free` wait in the pool, and then run."""
        batch = self.fill(pool, gate, more=3)
        assert gate.begun() == set(ids(batch[: self.most]))
        gate.open()
        heard.wait(batch)
        assert gate.begun() == set(ids(batch))

    def test_never_more_at_once_than_slots(self, pool: Pool, heard: Heard, tmp_path: Path) -> None:
        """Never more than `size` run at the same time."""
        (tmp_path / "crowd").mkdir()
        batch = self.some("x", 60, b"crowd %s" % str(tmp_path / "crowd").encode())
        pool.submit(batch)
        heard.wait(batch)
        assert max(map(int, heard.texts().values())) <= self.most

    # Cancel

    def test_what_waits_is_cancelled(self, pool: Pool, heard: Heard, gate: Gate) -> None:
        """What waits goes to `returned` and never runs."""
        batch = self.fill(pool, gate, more=3)
        unlucky = batch[self.most + 1].envelope.id
        assert pool.cancel(unlucky, hard=False) is True
        eventually(lambda: ids(heard.back) == [unlucky], every=0.005)
        assert pool.cancel(unlucky, hard=False) is False
        gate.open()
        eventually(lambda: len(heard.everything()) >= len(batch))
        assert heard.everything() == sorted(ids(batch))
        assert unlucky not in gate.begun()
        assert not heard.gone

    def test_the_unknown_is_not_cancelled(self, pool: Pool, heard: Heard) -> None:
        """What was never there, or has ended, cannot be cancelled."""
        batch = self.some("x", 1)
        pool.submit(batch)
        heard.wait(batch)
        for hard in (False, True):
            assert pool.cancel("x-0", hard=hard) is False
            assert pool.cancel("unknown", hard=hard) is False
        assert heard.everything() == ["x-0"]

    def test_what_runs_is_left_alone(self, pool: Pool, heard: Heard, gate: Gate) -> None:
        """Without `hard` what runs is not ended."""
        batch = self.fill(pool, gate)
        assert pool.cancel("held-0", hard=False) is False
        gate.open()
        heard.wait(batch)
        assert not heard.back
        assert not heard.gone

    def test_what_runs_is_ended_hard(self, pool: Pool, heard: Heard, gate: Gate) -> None:
        """With `hard` what runs is ended, where the pool can; and only that."""
        batch = self.fill(pool, gate)
        assert pool.cancel("held-0", hard=True) is pool.traits.stops_hard
        if pool.traits.stops_hard:
            eventually(lambda: isinstance(heard.errors().get("held-0"), Terminated), every=0.005)
        gate.open()
        eventually(lambda: len(heard.everything()) >= len(batch))
        assert heard.everything() == sorted(ids(batch))
        assert len(heard.gone) == pool.traits.stops_hard

    # Resize

    def test_grow(self, pool: Pool, heard: Heard, gate: Gate) -> None:
        """More slots begin what waits."""
        batch = self.fill(pool, gate, more=2)
        pool.resize(self.most + 2)
        if self.resizes:
            assert pool.size() == self.most + 2
            eventually(lambda: gate.begun() == set(ids(batch)), every=0.005)
        gate.open()
        heard.wait(batch)
        assert pool.free() == pool.size() == self.most + 2 * self.resizes

    def test_shrink(self, pool: Pool, heard: Heard, gate: Gate, tmp_path: Path) -> None:
        """Fewer slots interrupt nothing, and hold from then on."""
        batch = self.fill(pool, gate)
        pool.resize(1)
        assert pool.size() == 1
        assert pool.free() == 0
        gate.open()
        heard.wait(batch)
        assert pool.free() == 1
        (tmp_path / "crowd").mkdir()
        more = self.some("more", 30, b"crowd %s" % str(tmp_path / "crowd").encode())
        pool.submit(more)
        heard.wait(more)
        assert {heard.texts()[one] for one in ids(more)} == {b"1"}
        assert heard.everything() == sorted(ids([*batch, *more]))

    def test_shrink_and_grow(self, pool: Pool, heard: Heard, gate: Gate) -> None:
        """A pool that shrank can grow again."""
        pool.resize(1)
        pool.resize(self.most)
        assert pool.size() == self.most
        batch = self.fill(pool, gate)
        gate.open()
        heard.wait(batch)

    # Stop

    def test_stop_without_work(self, pool: Pool, heard: Heard) -> None:
        """An idle pool stops at once, and may be stopped again."""
        began = time.monotonic()
        assert not pool.stop(deadline=began + 60)
        assert not pool.stop(deadline=began + 60)
        assert time.monotonic() - began < 10
        assert not heard.everything()

    def test_stop_finishes_what_runs(self, pool: Pool, heard: Heard, gate: Gate) -> None:
        """What runs ends well before `stop` returns; what waits is returned."""
        batch = self.fill(pool, gate, more=3)
        with in_thread(lambda: pool.stop(deadline=time.monotonic() + 60)) as stopping:
            # One that is submitted now comes back: the pool has begun to stop by then.
            late: list[str] = []

            def refused() -> bool:
                late.append(f"late-{len(late)}")
                pool.submit([delivery(late[-1], self.verb)])
                return late[-1] in ids(heard.back)

            eventually(refused)
            assert stopping.running
            gate.open()
            left = stopping.value()
        assert isinstance(left, list)
        told = heard.everything() + ids(left)
        assert sorted(told) == sorted(ids(batch) + late)
        assert sorted(heard.ids()) == sorted(ids(batch[: self.most]))

    def test_stop_gives_up_at_the_deadline(self, pool: Pool, heard: Heard, gate: Gate) -> None:
        """At the deadline what runs is abandoned: returned, and never told of afterwards."""
        batch = self.fill(pool, gate, more=3)
        began = time.monotonic()
        left = pool.stop(deadline=began + 0.2)
        assert time.monotonic() - began < 10
        assert sorted(ids(left)) == sorted(ids(batch))
        gate.open()
        if not pool.traits.stops_hard:
            eventually(lambda: len(gate.passed()) == self.most, every=0.005)
        assert not heard.everything()

    def test_a_deadline_that_has_passed(self, pool: Pool, heard: Heard, gate: Gate) -> None:
        """A deadline in the past returns all at once."""
        batch = self.fill(pool, gate, more=1)
        began = time.monotonic()
        assert sorted(ids(pool.stop(deadline=began - 1000))) == sorted(ids(batch))
        assert time.monotonic() - began < 10

    def test_a_second_stop_shortens(self, pool: Pool, heard: Heard, gate: Gate) -> None:
        """A second call hurries the first; each delivery is returned by one of them."""
        batch = self.fill(pool, gate, more=2)
        with in_thread(lambda: pool.stop(deadline=float("inf"))) as first:
            eventually(lambda: not pool.cancel(f"held-{len(batch) - 1}", hard=False))
            second = pool.stop(deadline=time.monotonic())
            left = first.value()
        assert isinstance(left, list)
        told = ids([*left, *second]) + heard.everything()
        assert sorted(told) == sorted(ids(batch))
        assert not heard.settled

    def test_a_second_stop_never_lengthens(self, pool: Pool, gate: Gate) -> None:
        """The earlier of two deadlines holds."""
        self.fill(pool, gate)
        began = time.monotonic()
        with in_thread(lambda: pool.stop(deadline=began + 0.3)) as first:
            pool.stop(deadline=began + 600)
            first.value()
        assert time.monotonic() - began < 10

    def test_what_comes_after_the_stop_is_returned(self, pool: Pool, heard: Heard) -> None:
        """A pool that is stopped hands back what it is given."""
        pool.stop(deadline=time.monotonic())
        pool.submit(self.some("late", 2))
        eventually(lambda: ids(heard.back) == ["late-0", "late-1"])

    # Mishaps

    @pytest.mark.parametrize("how", [b"raise", b"exit"])
    def test_a_run_that_raises(self, pool: Pool, heard: Heard, how: bytes) -> None:
        """A run that raises loses its own delivery; the pool goes on."""
        bad, good = self.some("bad", self.most + 1, how), self.some("good", 5)
        pool.submit([*bad, *good])
        eventually(lambda: len(heard.everything()) >= len(bad) + len(good))
        assert set(heard.errors()) == set(ids(bad))
        assert all(isinstance(error, WorkerLostError) for error in heard.errors().values())
        assert sorted(heard.ids()) == sorted(ids(good))
        assert not heard.back
        assert pool.free() == pool.size()

    def test_states_are_passed_on(self, pool: Pool, heard: Heard) -> None:
        """What a task notes arrives, before the task's end."""
        batch = self.some("x", 5, b"note")
        pool.submit(batch)
        heard.wait(batch)
        eventually(lambda: len(heard.notes) >= len(batch))
        assert sorted(note.id for note in heard.notes) == ids(batch)
        assert {(note.state, note.body) for note in heard.notes} == {("PROGRESS", b"half")}

    def test_events_are_passed_on(self, pool: Pool, heard: Heard) -> None:
        """What a task tells arrives, each task's in the order in which it told it."""
        batch = self.some("x", 5, b"tell")
        pool.submit(batch)
        heard.wait(batch)
        eventually(lambda: len(heard.events) >= 2 * len(batch))
        assert Counter(heard.events) == {b"begun": len(batch), b"done": len(batch)}
