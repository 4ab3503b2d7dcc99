"""Tasks in child processes, each on a pipe of its own; the parent runs no task's code.

Work waits here and goes to the children in small batches, as large as they start within a few
milliseconds.  One thread owns every socket.

Owns: ProcessPool.  Thread rule: see `ports.pool`; children and sockets belong to the I/O thread.
May import: kernel, ports, pools.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from celeriac.kernel.errors import Terminated, TimeLimitExceeded, WorkerLostError
from celeriac.kernel.message import Delivery
from celeriac.pools.processes.child import main as be_child
from celeriac.pools.processes.member import Member, cause
from celeriac.pools.processes.nursery import Nursery
from celeriac.pools.processes.pipe import Report, decode_report
from celeriac.pools.processes.questions import Questions
from celeriac.pools.processes.slot import Slots
from celeriac.pools.processes.watch import ORPHAN, ROUND, Watch
from celeriac.pools.processes.zygote import Keeper
from celeriac.ports.pool import MakeRun, PoolTraits, Running, Sink

logger = logging.getLogger("celeriac.pool")

AHEAD = 0.005
"""Seconds of work that a child is given at once."""
DEEPEST = 64
"""Deliveries that a child is given at once, however short they are."""
LOOK = 0.02
"""Seconds between two looks at hard limits and at what waits behind, while something runs."""
LONG = 0.03
"""Seconds of one task after which what waits behind it is taken back."""
TICK = 0.002
"""Seconds after which what a child was about to write is there to be read."""
MOST_CHILDREN = 1024
"""Slots in shared memory; it must be made before the first child."""
GIVE_UP_AFTER = 3
"""Children in a row that could not begin after which the pool has failed."""
GIVE_UP_AFTER_KILLS = 20
"""The same of children that somebody killed before they had begun."""


class ProcessPool:
    """Runs up to `size` tasks at a time, each in a process.

    :param size: processes.
    :param max_tasks_per_child: tasks after which a process is replaced.
    :param max_memory_per_child: KiB of resident memory after which it is.
    :param begin_within: seconds after which a process that is not ready is replaced; 0 for never.
    """

    traits = PoolTraits("prefork", stops_hard=True, stops_soft=True, isolates=True)

    def __init__(
        self,
        size: int,
        *,
        max_tasks_per_child: int | None = None,
        max_memory_per_child: int | None = None,
        begin_within: float = 60.0,
    ) -> None:
        self._size = size
        self._watch = Watch(begin_within)
        self._limits = {"max_tasks": max_tasks_per_child, "max_memory": max_memory_per_child}
        self._lock = threading.Condition()
        self._waiting: deque[Delivery] = deque()
        self._children: dict[int, Member] = {}
        self._seq = 0
        self._mean = 1.0
        self._stopping = False
        self._deadline = float("inf")
        self._failures = 0
        self.failure: str | None = None
        """Why no child can begin; None while they can."""
        self._cancel: deque[str] = deque()
        self._thread: threading.Thread | None = None
        self._abandoned: list[Delivery] = []
        self._questions = Questions()

    # -- the port -------------------------------------------------------------------------------

    def start(self, make_run: MakeRun, sink: Sink) -> None:
        """Fork the keeper, then start the thread that has zygote and children made."""
        self._sink = sink
        self._slots = Slots(2 * MOST_CHILDREN)  # as many again may be on their way out
        self._make_run = make_run
        keeper = Keeper(self._be_child)  # before all that it should not inherit
        self._selector = selectors.DefaultSelector()
        self._nursery = Nursery(keeper, self._selector)
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        self._populate()
        self._thread = threading.Thread(target=self._serve, name="celeriac-pool", daemon=True)
        self._thread.start()

    def _be_child(self, sock: socket.socket, number: int) -> int:
        return be_child(sock, self._slots[number], self._make_run, **self._limits)

    def free(self) -> int:
        """Return how many deliveries could start at once."""
        with self._lock:
            busy = sum(len(child.outstanding) for child in self._children.values())
            return max(0, self._size - busy - len(self._waiting))

    def size(self) -> int:
        """Return how many tasks can run at the same time."""
        return self._size

    def submit(self, batch: Sequence[Delivery]) -> None:
        """Take deliveries."""
        with self._lock:
            refused = self._stopping
            if not refused:
                self._waiting.extend(batch)
        if refused:
            self._sink.returned(batch)
        else:
            self._wake()

    def cancel(self, task_id: str, *, hard: bool) -> bool:
        """Drop what waits; with `hard`, end what runs."""
        with self._lock:
            found = next((d for d in self._waiting if d.envelope.id == task_id), None)
            if found is not None:
                self._waiting.remove(found)
            child, seq = self._holder(task_id) if found is None else (None, 0)
            begun = False
            if child is not None:
                begun = seq <= child.slot.read()[1]
                if not begun:
                    child.cancelled.add(seq)
                    child.recall()
                if hard:
                    self._cancel.append(task_id)
        if found is not None:
            self._sink.returned([found])
        if child is None:
            return found is not None
        self._wake()
        if begun or threading.current_thread() is self._thread:
            return hard or not begun
        with self._lock:
            # A tick later it is known whether it had begun after all.
            self._lock.wait_for(lambda: seq not in child.cancelled, 0.25)
            child.cancelled.discard(seq)
            return hard or seq not in child.outstanding

    def _holder(self, task_id: str) -> tuple[Member | None, int]:
        for child in self._children.values():
            for seq, delivery in child.outstanding.items():
                if delivery.envelope.id == task_id:
                    return child, seq
        return None, 0

    def resize(self, size: int) -> None:
        """Run up to `size` tasks from now on."""
        with self._lock:
            self._size = max(1, min(size, MOST_CHILDREN))
        self._wake()

    def pids(self) -> list[int]:
        """Return the children's process ids."""
        with self._lock:
            return [c.pid for c in self._children.values() if c.pid and not c.orphaned_at]

    def running(self) -> list[Running]:
        """Return what runs now."""
        now, wall = time.monotonic(), time.time()
        found = []
        with self._lock:
            for child in self._children.values():
                seq, _, started, _ = child.slot.read()
                delivery = child.outstanding.get(seq)
                if delivery is not None:
                    begun = wall - (now - started)
                    found.append(Running(delivery.envelope.id, child.pid, begun))
        return found

    def tell(self, task_id: str, signum: int) -> bool:
        """Send a signal to the process of a task that runs."""
        with self._lock:
            child, seq = self._holder(task_id)
            if child is None or not child.pid or child.slot.read()[0] != seq:
                return False
            os.kill(child.pid, signum)  # a process until the I/O thread has buried it
            return True

    def look(self, ask: Mapping[str, Any], *, wait: float) -> list[Mapping[str, Any]]:
        """Have the children answer, or only the one that runs `task_id`."""
        wanted = ask.get("task_id")
        only = {one.pid for one in self.running() if wanted == one.task_id}
        with self._lock:
            able = [child for child in self._children.values() if child.ready and child.pid]
            asked = [(c.pid, c.slot) for c in able if not wanted or c.pid in only]
        return self._questions.ask(asked, ask, wait)

    def restart(self) -> None:
        """Replace every child, each when it has ended what it runs."""
        with self._lock:
            for child in self._children.values():
                child.outdated = True
        self._wake()

    def stop(self, *, deadline: float) -> Sequence[Delivery]:
        """Finish what runs until the deadline; return the rest."""
        with self._lock:
            again, self._stopping = self._stopping, True
            self._deadline = min(self._deadline, deadline)
            left = list(self._waiting)
            self._waiting.clear()
        if self._thread is None:
            return left  # never started
        self._wake()
        if again:
            # A second call hurries the first, which returns what is left.
            return left
        self._thread.join()
        with self._lock:
            left += self._abandoned
            self._abandoned = []
        return left

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake_write, b"!")

    # -- the I/O thread ---------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            while not self._over():
                ready = self._selector.select(self._pause())
                look = self._watch.tick()
                for key, _ in ready:
                    if isinstance(key.data, Member):
                        self._talk_safely(key.data)
                    elif key.data is self._nursery:
                        self._hear_nursery()
                    else:
                        with contextlib.suppress(BlockingIOError):
                            os.read(self._wake_read, 4096)
                self._take_back_some()
                self._end_some()
                if look:
                    self._end_overdue()
                self._bury_orphans()
                self._populate()
                self._assign()
        except BaseException as error:
            logger.exception("the pool broke")
            self._fail(f"the pool broke: {error!r}")
        finally:
            self._close()

    def _talk_safely(self, child: Member) -> None:
        try:
            self._talk(child)
        except msgspec.MsgspecError as error:
            logger.error("process %d said what cannot be read: %s", child.pid, error)
            child.kill()

    def _take_back_some(self) -> None:
        now = time.monotonic()
        for child in list(self._children.values()):
            if child.voided and now - child.voided_at >= TICK:
                _, last, _, _ = child.slot.read()
                void, child.voided = child.voided, 0
                # Batches become small again: much that is in hand is much to lose.
                self._learn(1.0)
                self._returned(child, [seq for seq in child.outstanding if last < seq <= void])
            elif len(child.outstanding) > 1 and not child.voided and child.runs_for(LONG):
                child.recall()

    def _returned(self, child: Member, seqs: Sequence[int]) -> None:
        """Put what a child did not begin first in the line, or out of the pool if cancelled."""
        dropped: list[Delivery] = []
        back: list[Delivery] = []
        with self._lock:
            for seq in seqs:
                delivery = child.outstanding.pop(seq, None)
                if delivery is not None:
                    (dropped if seq in child.cancelled else back).append(delivery)
            child.cancelled.difference_update(child.cancelled - child.outstanding.keys())
            child.cancelled.difference_update(
                [s for s in child.cancelled if s <= child.slot.read()[1]]
            )
            if self._stopping:
                self._abandoned += back
            else:
                self._waiting.extendleft(reversed(back))
            self._lock.notify_all()
        if dropped:
            self._sink.returned(dropped)

    def _over(self) -> bool:
        if not self._stopping:
            return False
        busy = any(child.outstanding for child in self._children.values())
        return not busy or time.monotonic() >= self._deadline

    def _pause(self) -> float | None:
        wait = None
        if any(child.outstanding for child in self._children.values()):
            # A task may have just begun its limits; looking is a read of memory.
            wait = LOOK
            if any(child.voided for child in self._children.values()):
                wait = TICK
        waits = [] if wait is None else [wait]
        if any(not c.ready or c.gone_at or c.orphaned_at for c in self._children.values()):
            waits.append(ROUND)
        if (pause := self._nursery.pause()) is not None:
            waits.append(pause)
        if self._stopping:
            waits.append(max(0.0, self._deadline - time.monotonic()))
        return min(waits, default=None)

    def _populate(self) -> None:
        """Have children made for the places that are empty, and let go of those too many."""
        if self.failure is not None or self._stopping:
            return
        serving = [child for child in self._children.values() if not child.retiring]
        for child in serving[self._size :]:
            if not child.outstanding:
                child.dismiss()
        for child in serving:
            if child.outdated and not child.outstanding:
                child.dismiss()
        serving = [child for child in serving if not child.retiring]
        number = 0
        for _ in range(self._size - len(serving)):
            while number in self._children:
                number += 1
            slot = self._slots[number]
            slot.clear()
            sock = self._nursery.spawn(number)
            if sock is None:
                return
            child = Member(number, sock, slot, self._watch.now)
            with self._lock:
                self._children[number] = child
            self._selector.register(sock, selectors.EVENT_READ, child)

    def _assign(self) -> None:
        if not self._waiting:
            return
        depth = max(1, min(DEEPEST, int(AHEAD / max(self._mean, 1e-6))))
        able = [
            c
            for c in self._children.values()
            if c.ready and not (c.retiring or c.ending or c.outdated)
        ]
        for child in sorted(able, key=lambda c: len(c.outstanding)):
            if len(child.outstanding) > depth // 2 or (depth == 1 and child.outstanding):
                continue
            if child.outstanding and child.runs_for(AHEAD):
                continue
            with self._lock:
                # An equal share at the most, so that one child does not get what two could do.
                share = max(1, -(-len(self._waiting) // max(1, len(able))))
                count = min(depth - len(child.outstanding), share, len(self._waiting))
                batch = [self._waiting.popleft() for _ in range(count)]
            if not batch:
                return
            with self._lock:
                self._seq = child.give(batch, self._seq)
            self._write(child)

    def _write(self, child: Member) -> None:
        child.write()
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if child.out else 0)
        if self._children.get(child.number) is child:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.modify(child.sock, events, child)

    def _talk(self, child: Member) -> None:
        if self._children.get(child.number) is not child:
            return
        if child.out:
            self._write(child)
        if not self._hear(child):
            # The end of the pipe; what it had is dealt with when its end is told of.
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(child.sock)
            child.gone_at = self._watch.now

    def _hear(self, child: Member) -> bool:
        """Read all that a child has said; False at the end of its pipe."""
        while (data := child.read()) is not None:
            if not data:
                return False
            for frame in child.frames.feed(data):
                self._heed(child, decode_report(frame))
        return True

    def _heed(self, child: Member, report: Report) -> None:
        if report.ready:
            child.greeted, self._failures = False, 0
            self._questions.greet(child)
        if report.answers:
            self._questions.hear(child, report.answers)
        if report.noted:
            self._sink.noted(report.noted)
        if report.told:
            self._sink.told(report.told)
        if report.ended:
            settlements = []
            runtime = 0.0
            with self._lock:
                for ended in report.ended:
                    delivery = child.outstanding.pop(ended.seq, None)
                    if delivery is not None:
                        settlements.append(ended.settlement(delivery))
                        runtime += ended.runtime
            if settlements:
                self._learn(runtime / len(settlements))
                self._sink.ended(settlements)
        if report.back:
            self._returned(child, report.back)
        for seq, text in report.broken:
            with self._lock:
                broken = child.outstanding.pop(seq, None)
            if broken is not None:
                self._sink.lost(broken, WorkerLostError(text))
        if report.retiring:
            child.retiring = True
            # It begins nothing more.  Back now, and not at its end: its successor keeps the order.
            last = child.slot.read()[1]
            self._returned(child, [seq for seq in child.outstanding if seq > last])
        if report.failure:
            child.failed = True
            self._failures += 1
            logger.error("a child process could not begin:\n%s", report.failure)
            if self._failures >= GIVE_UP_AFTER:
                self._fail(report.failure)

    def _learn(self, runtime: float) -> None:
        weight = 0.5 if runtime > self._mean else 0.3
        self._mean += weight * (runtime - self._mean)

    # -- ends -------------------------------------------------------------------------------------

    def _end_some(self) -> None:
        """End what is over its hard limit, and what was cancelled."""
        now = time.monotonic()
        for child in list(self._children.values()):
            if child.ending is not None or not child.outstanding:
                continue
            running, _, started, deadline = child.slot.read()
            delivery = child.outstanding.get(running)
            if delivery is None:
                continue
            if deadline and now >= deadline:
                child.end(running, TimeLimitExceeded(round(deadline - started, 3)))
            elif delivery.envelope.id in self._cancel:
                child.end(running, Terminated(signal.SIGKILL.value))
        if self._cancel:
            with self._lock:
                # One that is in a child's hands may begin yet: it is looked at again.
                held = {
                    delivery.envelope.id
                    for child in self._children.values()
                    for delivery in child.outstanding.values()
                    if child.ending is None
                }
                self._cancel = deque(task_id for task_id in self._cancel if task_id in held)

    def _end_overdue(self) -> None:
        """Kill what does not do what it must: it is replaced as anything else that was killed."""
        for child, why in self._watch.overdue(list(self._children.values())):
            if child is not None:
                logger.error("process %d is killed and replaced: %s", child.pid, why)
                text = f"its process {child.pid} was killed by the worker: {why}"
                child.kill(WorkerLostError(text))
            else:
                self._nursery.kill(why)

    def _hear_nursery(self) -> None:
        events = self._nursery.hear()
        if events is None or self._nursery.failure is not None:
            for orphan in self._children.values():
                orphan.orphaned_at = orphan.orphaned_at or self._watch.now
                orphan.retiring = True
        if self._nursery.failure is not None:
            self._fail(self._nursery.failure)
        for number, pid, status in events or ():
            child = self._children.get(number)
            if child is None:
                continue
            if not pid:
                logger.error("a child process cannot be forked: %s", os.strerror(status))
                child.failed = True
                self._bury(child, 0)
            elif status < 0:
                child.pid = pid
                self._questions.greet(child)
            elif child.pid == pid:
                self._bury(child, status)

    def _bury_orphans(self) -> None:
        for child in list(self._children.values()):
            # It dies with its zygote.  What its task started may hold the pipe for longer.
            if since := child.orphaned_at:
                if child.gone_at or self._watch.now - since > ORPHAN:
                    self._bury(child, signal.SIGKILL)

    def _fail(self, why: str) -> None:
        """Say, once, that this pool can run nothing any more."""
        if self.failure is None:
            self.failure = why
            self._sink.failed(why)

    def _bury(self, child: Member, status: int) -> None:
        """Deal with what a dead child had: what it ran is lost, what it had not begun is not."""
        self._hear(child)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(child.sock)
        child.sock.close()
        with self._lock:
            self._children.pop(child.number, None)
            child.cancelled.clear()
            self._lock.notify_all()
        running, last, _, _ = child.slot.read()
        error = child.ending or WorkerLostError(f"its process {child.pid} ended: {cause(status)}")
        fresh = []
        for seq, delivery in child.outstanding.items():
            if seq == running:
                self._sink.lost(delivery, error)
            elif seq <= last:
                text = f"its process {child.pid} ended before its outcome arrived: {cause(status)}"
                self._sink.lost(delivery, WorkerLostError(text))
            else:
                fresh.append(delivery)
        with self._lock:
            if self._stopping:
                self._abandoned += fresh
            else:
                self._waiting.extendleft(reversed(fresh))
        if not (child.ready or child.failed or child.orphaned_at):
            self._failures += 1
            killed = child.ending is None and status == signal.SIGKILL
            if self._failures >= (GIVE_UP_AFTER_KILLS if killed else GIVE_UP_AFTER):
                self._fail(f"children end before they begin: {child.ending or cause(status)}")

    def _close(self) -> None:
        """End the children: those that are idle by closing their pipes, the others by force."""
        for child in self._children.values():
            if not child.outstanding:
                child.dismiss()
        ends = time.monotonic() + 1.0
        idle = {c.number for c in self._children.values() if not c.outstanding}
        while idle and time.monotonic() < ends:
            self._selector.select(0.05)
            for number, _, status in self._nursery.hear() or ():
                if status >= 0:
                    idle.discard(number)
            for child in self._children.values():
                self._hear(child)
        self._nursery.close()
        # What is given back may begin elsewhere at once: not before it has ended here.
        ends, left = time.monotonic() + ORPHAN, list(self._children.values())
        while (left := [c for c in left if self._hear(c)]) and time.monotonic() < ends:
            time.sleep(TICK)
        with self._lock:
            for child in self._children.values():
                self._abandoned += child.outstanding.values()
                child.sock.close()
            self._children.clear()
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
