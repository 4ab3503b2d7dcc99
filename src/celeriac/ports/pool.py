"""Pools: where tasks run.

The contract is `celeriac.testing.contract.pool`.

Owns: Pool, PoolTraits, Sink, Run.  May import: kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from celeriac.kernel.events import Line
from celeriac.kernel.message import Delivery, Record, Settlement


@dataclass(frozen=True, slots=True)
class PoolTraits:
    """What a pool can do to a task that runs in it."""

    name: str
    stops_hard: bool
    """Can end a task that does not cooperate."""
    stops_soft: bool
    """Can raise SoftTimeLimitExceeded inside it."""
    isolates: bool
    """A crash of the task leaves the worker alive."""


class Sink(Protocol):
    """What a pool tells its owner.  Every method may be called from any thread of the pool."""

    def ended(self, batch: Sequence[Settlement]) -> None:
        """Say that deliveries ended; once for each delivery that the pool took."""
        ...

    def returned(self, batch: Sequence[Delivery]) -> None:
        """Hand back deliveries that were taken and never started."""
        ...

    def lost(self, delivery: Delivery, error: Exception) -> None:
        """Say that the process under a delivery is gone.

        :param error: TimeLimitExceeded, Terminated or WorkerLostError, with the cause in words.
        """
        ...

    def noted(self, batch: Sequence[Record]) -> None:
        """Pass on states that a running task reports."""
        ...

    def told(self, batch: Sequence[Line]) -> None:
        """Pass on events, see `kernel.events`."""
        ...

    def failed(self, why: str) -> None:
        """Say that the pool can run nothing any more; its owner is to stop it."""
        ...


@dataclass(frozen=True, slots=True)
class Running:
    """A task that runs now."""

    task_id: str
    pid: int
    started: float
    """Unix seconds."""
    thread: int = 0
    """Of this process, where the pool runs tasks in threads; 0 otherwise."""


class TaskFrame(Protocol):
    """What a pool lends a running task."""

    def limits(self, soft: float | None, hard: float | None) -> None:
        """Begin the time limits of the delivery that runs now, in seconds from now.

        At the soft one SoftTimeLimitExceeded is raised inside the task, at the hard one the task
        is ended and reported to `Sink.lost`.  Called for deliveries that have limits, only where
        the pool's traits allow; with two Nones when the task's own code has ended.
        """
        ...

    def noted(self, batch: Sequence[Record]) -> None:
        """Send states that the task reports on their way."""
        ...

    def told(self, batch: Sequence[Line]) -> None:
        """Send events on their way; never waits."""
        ...


Run = Callable[[Delivery], Settlement]
"""Runs one delivery and never raises, but for SystemExit and KeyboardInterrupt of the pool's own."""

MakeRun = Callable[[TaskFrame], Run]
"""Called by the pool once in every process in which tasks run.

Where `run` has `process_ends`, a pool that isolates calls it with the exit status before the
process ends by itself.  The pool calls the returned `run` from the thread that runs the task.  Where `run.is_async(delivery)`
is true the asyncio pool awaits `run.run_async(delivery)` on its loop instead.
"""


class Pool(Protocol):
    """Runs tasks.

    Thread rule: `submit`, `free` belong to the fetcher; the others may be called from any thread.
    """

    traits: PoolTraits

    def start(self, make_run: MakeRun, sink: Sink) -> None:
        """Make the processes or threads.  Called from the main thread, once."""
        ...

    def free(self) -> int:
        """Return how many deliveries could start at once: slots that nothing runs or waits in."""
        ...

    def size(self) -> int:
        """Return how many tasks can run at the same time."""
        ...

    def submit(self, batch: Sequence[Delivery]) -> None:
        """Take deliveries, to be started in this order as slots come free.

        More than `free()` may be given; they wait inside the pool.
        """
        ...

    def cancel(self, task_id: str, *, hard: bool) -> bool:
        """Drop or end a task: True where it waited (it goes to `Sink.returned`) or could be ended.

        With `hard`, what runs is ended (`Sink.lost` with Terminated) where `traits.stops_hard`.
        """
        ...

    def resize(self, size: int) -> None:
        """Run up to `size` tasks from now on; never interrupts one that runs."""
        ...

    def running(self) -> Sequence[Running]:
        """Return what runs now."""
        ...

    def tell(self, task_id: str, signum: int) -> bool:
        """Send a signal that does not mean its end to the process of a task that runs.

        False where the pool has no process for it, or it does not run.
        """
        ...

    def look(self, ask: Mapping[str, Any], *, wait: float) -> Sequence[Mapping[str, Any]]:
        """Have the processes in which tasks run answer `pools.look.answer`, up to `wait` seconds.

        :param ask: `do` and its arguments; with `task_id`, only of the process of that task.
        """
        ...

    def stop(self, *, deadline: float) -> Sequence[Delivery]:
        """Finish what runs, return what never started or had to be abandoned.

        :param deadline: `time.monotonic()` seconds by which to return; may be shortened by a
            second call from another thread.
        """
        ...
