"""A queue, a worker and a clock that a test moves by hand.

`TaskKit` puts a broker and a result store in memory in the place of the app's own.  What the code
under test sends goes through the real routing and serializer and waits; `run_until_empty` runs it,
one task after the other, in the test's own thread, and settles it as a worker does: retries,
follow-ups, rejections and burials included.

Owns: TaskKit, KitClock, Ran.
Thread rule: a kit belongs to the thread of its test.
May import: kernel, ports, client, worker, drivers.memory.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

from celeriac.client import current
from celeriac.client.app import Celeriac
from celeriac.client.result import RemoteTraceback
from celeriac.client.watcher import Callback, Watcher
from celeriac.drivers.memory import MemoryFamily
from celeriac.kernel.clock import ManualClock
from celeriac.kernel.errors import CeleryError, TaskPredicate, WorkerLostError
from celeriac.kernel.events import Line
from celeriac.kernel.message import Buried, Delivery, Envelope, Record, Settlement
from celeriac.kernel.states import FAILURE, READY_STATES, REVOKED
from celeriac.kernel.wire import Headers, unpack
from celeriac.ports.broker import Broker, Consumer
from celeriac.ports.pool import PoolTraits
from celeriac.testing.running import as_current
from celeriac.testing.sent import Sent, read, task_name_of, wanted
from celeriac.worker.execute import Execution

MOST = 10_000
"""Deliveries that one `run_until_empty` runs before it calls the tasks an endless loop."""

PATIENCE = 10.0
"""Seconds that one thread waits for another that runs the queue."""

_TRAITS = PoolTraits("kit", stops_hard=True, stops_soft=True, isolates=True)


class KitClock(ManualClock):
    """The time of a kit: what is delayed becomes due when it is moved.

    It is the engine's time only: `datetime.now()` in a task is the machine's.
    """

    def advance(
        self,
        seconds: float = 0.0,
        *,
        minutes: float = 0.0,
        hours: float = 0.0,
        days: float = 0.0,
    ) -> None:
        """Move on.

        :raises ValueError: the sum is negative.
        """
        super().advance(seconds + 60 * (minutes + 60 * (hours + 24 * days)))

    def advance_to(self, when: dt.datetime) -> None:
        """Move on to an aware datetime.

        :raises ValueError: it has passed.
        """
        # A datetime has microseconds, the clock has less.
        super().advance(when.timestamp() - self.time() + 1e-6)

    def now(self) -> dt.datetime:
        """Return the time as an aware datetime in UTC."""
        return dt.datetime.fromtimestamp(self.time(), dt.UTC)


@dataclass(frozen=True, slots=True)
class Ran:
    """A delivery that was run, or refused."""

    task: str
    id: str
    retries: int
    handed_out: int
    """1, and one more for each worker that it has lost."""
    verdict: str
    """What became of it: ack, retry, release, lost or bury."""
    state: str | None
    """The state that was stored."""
    error: BaseException | None = None


@dataclass(slots=True)
class _Crash:
    task: str | None
    left: int


@dataclass(slots=True)
class _Noticed:
    """What the execution says of the delivery that runs now."""

    error: BaseException | None = None
    traceback: str | None = None
    loud: bool = False
    """Nobody expects it: `run_until_empty` raises it."""


class _Frame:
    """Lends a task nothing: no limits, and states go straight to the store."""

    def __init__(self, kit: TaskKit) -> None:
        self._kit = kit

    def limits(self, soft: float | None, hard: float | None) -> None:
        """Do nothing: the clock stands still while a task runs."""

    def noted(self, batch: Sequence[Record]) -> None:
        """Store at once."""
        self._kit.app.store(batch)

    def told(self, batch: Sequence[Line]) -> None:
        """Send events of the task's own as a program that is no worker does."""
        self._kit.app.tell(batch)


class _Execution(Execution):
    """Notices errors before they are encoded."""

    noticed: _Noticed

    def _conclude(self, job: Any) -> Settlement:
        self.noticed = _Noticed()  # a task that waits for others has run them meanwhile
        settlement = super()._conclude(job)
        error = job.attempt.error
        if error is not None and not isinstance(error, TaskPredicate):
            expected = isinstance(error, tuple(job.prepared.task.throws or ()))
            self.noticed = _Noticed(error, job.attempt.traceback, not expected)
        elif error is not None:
            self.noticed = _Noticed(error)
        return settlement

    def _fail(self, job: Any, error: BaseException) -> Settlement:
        self.noticed = _Noticed(error, None, True)
        return super()._fail(job, error)

    def _bury(self, delivery: Delivery, head: Headers | None, error: BaseException) -> Settlement:
        self.noticed = _Noticed(error, None, True)
        return super()._bury(delivery, head, error)

    def park(
        self, delivery: Delivery, head: Headers, payload: bytes, error: Exception
    ) -> Settlement:
        self.noticed = _Noticed(error, None, True)
        return super().park(delivery, head, payload, error)


class _Broker:
    """The memory broker, with a note of what is published."""

    def __init__(self, broker: Broker, note: Callable[[Sequence[Envelope]], None]) -> None:
        self._broker, self._note = broker, note

    def publish(self, batch: Sequence[Envelope]) -> None:
        self._broker.publish(batch)
        self._note(batch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)


class _Family(MemoryFamily):
    """A memory world of the kit's own, with that broker."""

    def __init__(self, clock: KitClock, note: Callable[[Sequence[Envelope]], None]) -> None:
        super().__init__("memory://kit", {"private": True, "clock": clock})
        self._noting: Any = _Broker(super().broker(), note)

    def broker(self) -> Any:
        return self._noting


class _Watcher(Watcher):
    """Who waits for a result in a test without a worker runs the tasks that wait."""

    def __init__(self, kit: TaskKit) -> None:
        super().__init__(kit.family.results())
        self._kit = kit

    def add_all(self, ids: Sequence[str], callback: Callback) -> None:
        self._kit.run_until_empty(failures="keep")
        for task_id in ids:
            record = self._final(task_id)
            if record is None:
                raise AssertionError(self._kit.why_not(task_id))
            callback(record)

    def discard_all(self, ids: Sequence[str], callback: Callback) -> None:
        """Do nothing: nobody waits here."""

    def wait(self, task_id: str, timeout: float | None) -> Record | None:
        found: list[Record] = []
        self.add(task_id, found.append)
        return found[0]

    def _final(self, task_id: str) -> Record | None:
        record = self._kit.family.results().fetch([task_id]).get(task_id)
        return record if record is not None and record.state in READY_STATES else None


@dataclass(repr=False, eq=False)
class TaskKit:
    """Broker, results, worker and clock of one test.

    >>> with TaskKit(app) as kit:  # doctest: +SKIP
    ...     add.apply_async((2, 2), countdown=60)
    ...     kit.clock.advance(minutes=1)
    ...     kit.run_until_empty()

    :param app: whose broker and result store are replaced inside the `with` block.
    :param start: unix seconds at which the clock begins; the machine's where None.
    """

    app: Celeriac
    start: float | None = None
    clock: KitClock = field(init=False)
    family: Any = field(init=False)
    """The memory driver's family: `family.broker()`, `family.results()`."""
    ran: list[Ran] = field(init=False, default_factory=list)
    """What ran, in order."""

    __test__ = False

    def __post_init__(self) -> None:
        self.clock = KitClock(time.time() if self.start is None else self.start)
        self.family = _Family(self.clock, self._note)
        self._sent: list[tuple[Envelope, float]] = []
        self._crashes: list[_Crash] = []
        self._stack = contextlib.ExitStack()
        self._execution: tuple[int, _Execution] | None = None
        self._consumer: Consumer = self.broker.consume([], owner="kit", lease=math.inf)
        self._lock = threading.RLock()

    # -- life -----------------------------------------------------------------------------------

    def __enter__(self) -> TaskKit:
        stack = self._stack
        stack.enter_context(
            self.app.standing_in(self.family, clock=self.clock, watcher=_Watcher(self))
        )
        # A test that wants tasks run at the call has no use for a kit; settings of a test suite
        # that moves from one to the other stay as they are.
        stack.enter_context(self.settings(task_always_eager=False))
        stack.enter_context(as_current(self.app))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        if self._execution is not None:
            self._execution[1].close()

    @contextlib.contextmanager
    def settings(self, **changes: Any) -> Iterator[None]:
        """Change settings of the app inside the block."""
        conf = self.app.conf
        former = {name: conf[name] for name in changes}
        conf.update(changes)
        try:
            yield
        finally:
            conf.update(former)

    @property
    def broker(self) -> Broker:
        """The broker in memory, for a look at its queues."""
        broker: Broker = self.family.broker()
        return broker

    def _note(self, batch: Sequence[Envelope]) -> None:
        now = self.clock.time()
        self._sent.extend((envelope, now) for envelope in batch)

    # -- running --------------------------------------------------------------------------------

    def run_until_empty(
        self,
        *,
        failures: Literal["raise", "keep"] = "raise",
        queues: Sequence[str] | None = None,
        limit: int = MOST,
    ) -> list[Ran]:
        """Run everything that is due, and what that sends, until nothing is due any more.

        The most urgent first, then in order of arrival.  What is delayed waits for the clock.

        :param failures: "raise" raises the exception of a task that failed and did not name it in
            `throws`, of a message that was buried, or of a task that the app does not know, once
            that delivery is settled; "keep" leaves it to the result.
        :param queues: run only what is in these.
        :param limit: deliveries after which this is taken for an endless loop.
        :return: what ran, in order.
        :raises AssertionError: the limit was reached, or called from inside a task.
        """
        ran: list[Ran] = []
        while (one := self.run_one(failures=failures, queues=queues)) is not None:
            ran.append(one)
            if len(ran) >= limit:
                raise AssertionError(
                    f"{limit} deliveries ran and more wait, the last was {one.task}: "
                    "an endless loop, or give a higher limit="
                )
        return ran

    def run_one(
        self,
        *,
        failures: Literal["raise", "keep"] = "raise",
        queues: Sequence[str] | None = None,
    ) -> Ran | None:
        """Run the next delivery that is due; None where nothing is.  As `run_until_empty`."""
        request = current.get_current_request()
        if request is not None and not request.is_eager and not current._join_allowed.get():
            raise AssertionError(
                "a task waits for another one, or runs the queue: in a worker that would take "
                "a slot to wait for a slot"
            )
        if not self._lock.acquire(timeout=PATIENCE):
            raise AssertionError(f"another thread runs this kit's queue for more than {PATIENCE} s")
        try:
            self.broker.upkeep(self.clock.time())
            names = queues if queues is not None else self.broker.count(())
            self._consumer.watch(list(names))
            found = self._consumer.claim(1, wait=0.0, suspects=1)
            if not found:
                return None
            # In a copy of the context: a task's variables are not the test's.
            ran, noticed = copy_context().run(self._run, found[0])
        finally:
            self._lock.release()
        error = noticed.error
        if failures == "raise" and noticed.loud and error is not None:
            if noticed.traceback and error.__cause__ is None:
                error.__cause__ = RemoteTraceback(noticed.traceback)
            raise error
        return ran

    def _run(self, delivery: Delivery) -> tuple[Ran, _Noticed]:
        execution = self._make_execution()
        execution.noticed = _Noticed()
        settlement = execution(delivery)
        noticed = execution.noticed
        if self._crashes_now(delivery):
            lost = WorkerLostError("crash_before_settle()")
            settlement, noticed = execution.lost(delivery, lost), _Noticed(lost)
        self._consumer.settle([settlement])
        self._note(settlement.publish)
        state = settlement.record.state if settlement.record is not None else None
        ran = Ran(
            _name_of(delivery.envelope),
            delivery.envelope.id,
            delivery.envelope.attempt,
            delivery.handed_out,
            settlement.verdict.value,
            state,
            noticed.error,
        )
        self.ran.append(ran)
        return ran, noticed

    def _make_execution(self) -> _Execution:
        version = self.app.conf.version
        if self._execution is None or self._execution[0] != version:
            if self._execution is not None:
                self._execution[1].close()
            execution = _Execution(self.app, _Frame(self), hostname="celery@kit", traits=_TRAITS)
            self._execution = version, execution
        return self._execution[1]

    # -- crashes --------------------------------------------------------------------------------

    def crash_before_settle(self, task: Any = None, *, times: int = 1) -> None:
        """Let the worker die when the next task has run and before anybody knows.

        What the task did is done, its outcome is lost, and it is delivered again: the case that
        a task must be idempotent for.

        :param task: only this task (or name of one) takes its worker down.
        :param times: how often.
        """
        self._crashes.append(_Crash(task_name_of(task), times))

    def _crashes_now(self, delivery: Delivery) -> bool:
        name = _name_of(delivery.envelope)
        for crash in self._crashes:
            if crash.left > 0 and crash.task in (None, name):
                crash.left -= 1
                return True
        return False

    # -- looking --------------------------------------------------------------------------------

    def sent(
        self,
        task: Any = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> list[Sent]:
        """Return what was sent, follow-ups included and retries not, the oldest first.

        :param task: only this task (or the name of one).
        :param args: only with these arguments, as they are after the serializer.
        :param kwargs: only with these keyword arguments.
        :param fields: only where the fields of `Sent` are these: `queue="mails", countdown=60`.
        """
        found = []
        for envelope, at in self._sent:
            one = read(self.app, envelope, at)
            if one.fits(task, args, kwargs, fields):
                found.append(one)
        return found

    def assert_sent(
        self,
        task: Any = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        times: int | None = None,
        **fields: Any,
    ) -> Sent:
        """Return the first that fits what `sent` takes.

        :param times: how many there must be; at least one where None.
        :raises AssertionError: there is none, or not as many; the message lists what was sent.
        """
        found = self.sent(task, args, kwargs, **fields)
        if not found or (times is not None and len(found) != times):
            raise AssertionError(
                f"{wanted(task, args, kwargs, fields)} was sent {len(found)} times, not "
                f"{times if times is not None else 'once'}; {self._listing()}"
            )
        return found[0]

    def assert_not_sent(
        self,
        task: Any = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        """Check that nothing fits what `sent` takes.

        :raises AssertionError: something does.
        """
        found = self.sent(task, args, kwargs, **fields)
        if found:
            raise AssertionError(
                f"{wanted(task, args, kwargs, fields)} was sent: "
                + "; ".join(str(one) for one in found)
            )

    def waiting(self) -> list[Sent]:
        """Return what waits in the queues, delayed tasks and retries included."""
        broker, now = self.broker, self.clock.time()
        return [
            read(self.app, envelope, now)
            for queue in broker.count(())
            for envelope in broker.peek(queue, limit=MOST)
        ]

    def buried(self) -> list[Buried]:
        """Return what was buried, with the reasons."""
        return list(self.broker.buried(limit=MOST))

    @property
    def failures(self) -> list[Ran]:
        """What failed, was refused or was lost, in order."""
        return [
            ran
            for ran in self.ran
            if ran.state in (FAILURE, REVOKED) or ran.verdict in ("bury", "lost")
        ]

    def clear(self) -> None:
        """Drop what waits, and forget what was sent and what ran."""
        for queue in self.broker.count(()):
            self.broker.purge(queue)
        self._sent.clear()
        self.ran.clear()
        self._crashes.clear()

    def why_not(self, task_id: str) -> str:
        """Return in words why a task has no result."""
        for one in self.waiting():
            if one.id == task_id:
                return (
                    f"{one} waits for the clock: it is due at {one.eta}, and the kit's clock says "
                    f"{self.clock.now()}; move it with kit.clock.advance(...)"
                )
        for grave in self.buried():
            if grave.envelope.id == task_id:
                return f"task {task_id} is buried: {grave.reason}"
        if not any(envelope.id == task_id for envelope, _ in self._sent):
            return f"task {task_id} was never sent: {self._listing()}"
        return f"task {task_id} ran and stored no result: see ignore_result, Ignore and Reject"

    def _listing(self) -> str:
        sent = self.sent()
        if not sent:
            return "nothing was sent"
        return "sent was:\n" + "\n".join(f"  {one}" for one in sent)


def _name_of(envelope: Envelope) -> str:
    try:
        return unpack(envelope.body)[0].task
    except CeleryError:
        return "?"
