"""A child of the process pool, as its parent sees it.

Owns: Member, cause.  Thread rule: belongs to the pool's I/O thread, but for what the pool's lock guards.
May import: kernel, pools.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Sequence

from celeriac.kernel.message import Delivery
from celeriac.pools.processes.pipe import Frames, Work, encode
from celeriac.pools.processes.slot import Slot


class Member:
    """One child: its pipe, what it was given, and what is to become of it.

    :param asked_at: when it was asked for, as every time here by the pool's `Watch`.
    """

    def __init__(self, number: int, sock: socket.socket, slot: Slot, asked_at: float) -> None:
        self.number, self.sock, self.slot = number, sock, slot
        self.pid = 0
        self.frames = Frames()
        self.out = bytearray()
        self.outstanding: dict[int, Delivery] = {}
        self.ready = False
        self.greeted: bool | None = None
        """Whether it was told what is new; None while it has not begun."""
        self.greeting = 0
        """The question whose answer says that it knows."""
        self.retiring = False
        self.failed = False
        """It has said why it could not begin."""
        self.last = 0
        """The newest of `outstanding`."""
        self.voided, self.voided_at = 0, 0.0
        """Up to where what is not begun is being taken back, and since when; 0 for not."""
        self.cancelled: set[int] = set()
        """What is to leave the pool should it come back."""
        self.outdated = False
        """It is to be replaced once it is idle."""
        self.ending: Exception | None = None
        """Why the parent is ending it."""
        self.asked_at = asked_at
        self.gone_at = 0.0
        """Since when its pipe has ended; 0 for not."""
        self.orphaned_at = 0.0
        """Since when the zygote is dead that had it made; 0 for not."""
        self.idle: tuple[int, float] = (-1, 0.0)
        """What it had begun last when it was first seen to run nothing, and since when."""

    def runs_for(self, seconds: float) -> bool:
        """Tell whether one task has kept it for longer."""
        running, _, started, _ = self.slot.read()
        return bool(running) and time.monotonic() - started > seconds

    def give(self, batch: Sequence[Delivery], seq: int) -> int:
        """Put deliveries into its pipe, numbered from after `seq`; return the last number."""
        works = [Work.of(number, delivery) for number, delivery in enumerate(batch, seq + 1)]
        self.outstanding.update((work.seq, one) for work, one in zip(works, batch, strict=True))
        self.last, self.idle = seq + len(works), (-1, 0.0)
        self.out += encode(works)
        return self.last

    def recall(self) -> None:
        """Begin to take back what it has not begun."""
        _, last, _, _ = self.slot.read()
        if not self.voided and self.last > last:
            self.voided, self.voided_at = self.last, time.monotonic()
            self.slot.void(self.last)

    def write(self) -> None:
        """Send of `out` what the pipe takes; nothing is left of it where the child is dead."""
        try:
            while self.out:
                sent = self.sock.send(memoryview(self.out)[: 1 << 20])
                del self.out[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self.out.clear()  # what it had is dealt with when its end is told of

    def read(self) -> bytes | None:
        """Return what it has said; nothing at the end of the pipe, None where it is silent."""
        try:
            return self.sock.recv(1 << 18)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def dismiss(self) -> None:
        """Let it end once it has nothing to do."""
        self.retiring = True
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def kill(self, error: Exception | None = None) -> None:
        """Kill it; `error` says why, to those whose task it runs."""
        if self.pid:
            self.ending = error or self.ending
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def end(self, seq: int, error: Exception) -> None:
        """Kill it while it runs `seq`, and not if it has gone on to the next meanwhile."""
        if not self.pid:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGSTOP)
            if self.slot.read()[0] == seq:
                self.kill(error)
            os.kill(self.pid, signal.SIGCONT)


def cause(status: int) -> str:
    """Return how a process ended, in words."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = signal.Signals(number).name
        hint = ", perhaps out of memory" if number == signal.SIGKILL else ""
        return f"signal {number} ({name}){hint}"
    return f"exit status {os.waitstatus_to_exitcode(status)}"
