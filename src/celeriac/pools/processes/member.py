"""A child of the process pool, as its parent sees it.

Owns: Member, cause.  Thread rule: belongs to the pool's I/O thread, but for what the pool's lock guards.
May import: kernel, pools.
"""

from __future__ import annotations

import os
import signal
import socket

from celeriac.kernel.message import Delivery
from celeriac.pools.processes.pipe import Frames


class Member:
    """One child: its pipe, what it was given, and what is to become of it.

    :param asked_at: when it was asked for, as every time here by the pool's `Watch`.
    """

    def __init__(self, number: int, sock: socket.socket, asked_at: float) -> None:
        self.number, self.sock = number, sock
        self.pid = 0
        self.frames = Frames()
        self.out = bytearray()
        self.outstanding: dict[int, Delivery] = {}
        self.ready = False
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


def cause(status: int) -> str:
    """Return how a process ended, in words."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = signal.Signals(number).name
        hint = ", perhaps out of memory" if number == signal.SIGKILL else ""
        return f"signal {number} ({name}){hint}"
    return f"exit status {os.waitstatus_to_exitcode(status)}"
