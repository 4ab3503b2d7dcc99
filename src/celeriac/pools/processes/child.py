"""A child of the process pool: takes work, runs it, reports.

The main thread runs tasks, so that a signal can interrupt them.  A courier thread sends on what
has ended and gives back what has not begun while one task keeps the main thread busy.

Owns: main.  May import: kernel, ports, pools.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import resource
import signal
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any

import msgspec

from celeriac.kernel.errors import SoftTimeLimitExceeded
from celeriac.kernel.events import Line, written
from celeriac.kernel.failure import traceback_text
from celeriac.kernel.message import Record, Settlement
from celeriac.pools.look import answer
from celeriac.pools.processes.pipe import Ended, Report, Work, decode_work, encode
from celeriac.pools.processes.slot import Slot
from celeriac.ports.pool import MakeRun

logger = logging.getLogger("celeriac.pool")

TICK = 0.004
"""Seconds between two looks of the courier, while there is something to carry."""
LOOK = signal.SIGRTMIN + 5
"""Says that the parent asks something.  Blocked, and waited for by a thread: it interrupts nothing."""
MOST_TOLD = 10_000
"""Events that may wait for the courier."""
FRESH = 0.001
"""Seconds that an outcome may wait for others before the next task is begun."""


class _Frame:
    """What the child lends a task."""

    def __init__(self, child: _Child) -> None:
        self._child = child
        self._timed = False
        self.armed = False
        signal.signal(signal.SIGALRM, self._on_alarm)

    def limits(self, soft: float | None, hard: float | None) -> None:
        """Begin, or with two Nones end, the limits of what runs."""
        self.armed = bool(soft)
        if soft or self._timed:
            self._timed = bool(soft)
            signal.setitimer(signal.ITIMER_REAL, soft or 0.0)
        self._child.slot.limit(time.monotonic() + hard if hard else 0.0)

    def _on_alarm(self, number: int, frame: Any) -> None:
        if self.armed:
            self.armed = False
            raise SoftTimeLimitExceeded

    def noted(self, batch: Sequence[Record]) -> None:
        """Send states on their way."""
        # No socket here: an alarm raised inside a send would leave half a frame on the pipe.
        self._child.note(batch)

    def told(self, batch: Sequence[Line]) -> None:
        """Send events on their way."""
        self._child.tell(batch)


class _Child:
    def __init__(
        self, sock: socket.socket, slot: Slot, max_tasks: int | None, max_memory: int | None
    ) -> None:
        self._sock, self.slot = sock, slot
        self._max_tasks, self._max_memory = max_tasks, max_memory
        self._queue: deque[Work] = deque()
        self._ended: deque[Ended] = deque()
        self._send_lock = threading.Lock()
        self._flush_lock = threading.Lock()
        self._carry = threading.Event()
        self._first_ended = 0.0
        self._noted: deque[Record] = deque()
        self._told: deque[Line] = deque(maxlen=MOST_TOLD)
        self._broken: list[tuple[int, str]] = []
        self._back: list[int] = []
        self._running: dict[int, str] = {}
        self.ends: Callable[[int], None] | None = None
        """Told of the end of this process, with its exit status."""

    def serve(self, make_run: MakeRun) -> None:
        """Run tasks until the parent closes the pipe, or this child has done enough."""
        frame = _Frame(self)
        run = make_run(frame)
        self.ends = getattr(run, "process_ends", None)
        self.send(Report(ready=True))
        threading.Thread(target=self._onlooker, name="celeriac-onlooker", daemon=True).start()
        me = threading.get_ident()
        threading.Thread(target=self._courier, name="celeriac-courier", daemon=True).start()
        done = 0
        while True:
            if not self._queue:
                self._flush()
                if not self._receive():
                    return
            try:
                work = self._queue.popleft()
            except IndexError:
                continue
            self.slot.begin(work.seq)
            if self._ended:
                self._carry.set()
            if self.slot.is_void(work.seq):
                self.slot.end()
                self._back.append(work.seq)
                self._tell_back()
                continue
            self._running[me] = work.id
            settled: list[Settlement] = []
            try:
                try:
                    # An alarm may be raised as soon as a call returns, before its value is kept:
                    # here the call itself keeps it.  What a task sets in its context ends with it.
                    within: Any = copy_context().run
                    settled.extend(map(within, (run,), (work.delivery(),)))
                finally:
                    frame.armed = False
            except (SystemExit, KeyboardInterrupt):
                self._flush()  # what ended before it is not lost with it
                raise
            except BaseException as error:
                if not settled:  # a bug; a late alarm, with the outcome at hand, is none
                    logger.exception("a task broke out of its pool")
                    self._broken.append((work.seq, f"{type(error).__name__}: {error!s:.500}"))
            frame.limits(None, None)
            self.slot.end()
            self._running.clear()
            if not self._ended:
                self._first_ended = time.monotonic()
            if settled:
                self._ended.append(Ended.of(work.seq, settled[0]))
            elif self._broken:
                self.send(Report(broken=self._broken))
                self._broken = []
            if not self._queue or time.monotonic() - self._first_ended > FRESH:
                self._flush()
            done += 1
            if self._has_done_enough(done):
                self._give_back()
                self._flush()
                self.send(Report(retiring=True))
                return

    def _has_done_enough(self, done: int) -> bool:
        if self._max_tasks and done >= self._max_tasks:
            return True
        return bool(self._max_memory) and _memory() > (self._max_memory or 0)

    def _receive(self) -> bool:
        head = _read(self._sock, 4)
        if head is None:
            return False
        body = _read(self._sock, struct.unpack(">I", head)[0])
        if body is None:
            return False
        self._queue.extend(decode_work(body))
        return True

    def send(self, report: Report) -> None:
        """Say something to the parent; the parent's death is ours."""
        self._send(encode(report))

    def _send(self, frame: bytes) -> None:
        try:
            with self._send_lock:
                self._sock.sendall(frame)
        except OSError:
            os._exit(0)

    def note(self, batch: Sequence[Record]) -> None:
        """Leave states for the courier."""
        self._noted.extend(batch)
        self._carry.set()

    def tell(self, batch: Sequence[Line]) -> None:
        """Leave events for the courier; the oldest are lost when there are too many."""
        self._told.extend(batch)
        self._carry.set()

    def _tell_back(self) -> None:
        back, self._back = self._back, []
        self.send(Report(back=back))

    def _flush(self) -> None:
        # Held while the courier sends what it took: this process must not end meanwhile.
        with self._flush_lock:
            self._flush_all()

    def _flush_all(self) -> None:
        noted = [self._noted.popleft() for _ in range(len(self._noted))]
        told = written([self._told.popleft() for _ in range(len(self._told))])
        if noted or told:
            self.send(Report(noted=noted, told=told))
        ended = []
        with contextlib.suppress(IndexError):
            while True:
                ended.append(self._ended.popleft())
        if not ended:
            return
        try:
            report = encode(Report(ended=ended))
        except (ValueError, TypeError, OverflowError, RecursionError):
            for one in ended:  # one of them cannot be sent: the others can
                try:
                    encode(one)
                except (ValueError, TypeError, OverflowError, RecursionError) as error:
                    text = f"its outcome cannot be sent: {error}"
                    text = text.encode(errors="backslashreplace").decode()
                    self.send(Report(broken=[(one.seq, text)]))
                else:
                    self.send(Report(ended=[one]))
        else:
            self._send(report)

    def _give_back(self) -> None:
        back = []
        with contextlib.suppress(IndexError):
            while True:
                back.append(self._queue.popleft().seq)
        if back:
            self.send(Report(back=back))

    def _onlooker(self) -> None:
        """Answer what the parent asks about this process, whatever the task does meanwhile."""
        while True:
            signal.sigwait({LOOK})
            token, ask = 0, {}
            try:
                token, ask = msgspec.json.decode(self.slot.asked())
                found = msgspec.json.encode(answer(ask, dict(self._running)))
            except Exception as error:  # a broken look must not end the looking
                logger.exception("looking at the process failed")
                found = msgspec.json.encode({"pid": os.getpid(), "error": repr(error)})
            self.send(Report(answers=[(token, found)]))

    def _courier(self) -> None:
        while True:
            self._carry.wait()
            time.sleep(TICK)
            self._carry.clear()
            self._flush()


def _read(sock: socket.socket, count: int) -> bytes | None:
    """Return exactly `count` bytes, or None at the end of the pipe."""
    data = bytearray(count)
    view, got = memoryview(data), 0
    while got < count:
        try:
            step = sock.recv_into(view[got:])
        except OSError:
            return None
        if step == 0:
            return None
        got += step
    return bytes(data)


def _memory() -> int:
    """Return this process's resident memory in KiB."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(
    sock: socket.socket,
    slot: Slot,
    make_run: MakeRun,
    *,
    max_tasks: int | None,
    max_memory: int | None,
) -> int:
    """Be a child; return the exit status."""
    multiprocessing.current_process().name = f"ForkPoolWorker-{slot.index + 1}"
    signal.pthread_sigmask(signal.SIG_BLOCK, {LOOK})
    child = _Child(sock, slot, max_tasks, max_memory)
    status = 0
    try:
        child.serve(make_run)
    except SystemExit as leave:
        status = leave.code if isinstance(leave.code, int) else 1
    except BaseException as error:
        child.send(Report(failure=traceback_text(error)))
        status = 1
    finally:
        if child.ends is not None:
            child.ends(status)
        sys.stdout.flush()
        sys.stderr.flush()
        logging.shutdown()
    return status
