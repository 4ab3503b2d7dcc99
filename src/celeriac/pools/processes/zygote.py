"""The process that forks the pool's children: a parent without threads, with the app imported.

A process that has threads must not fork: a lock that another thread holds stays locked for ever in
the child.  The zygote is forked while the worker has no threads yet, and has none itself.

Owns: Zygote.  Thread rule: `spawn` and `events` belong to the pool's own thread.
May import: pools.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import gc
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable

_EVENT = struct.Struct("=iii")
"""(child's number, pid, wait status; -1 while it lives)."""
_REQUEST = struct.Struct("=i")

BeChild = Callable[[socket.socket, int], int]
"""Is the child of a number on a socket; returns the exit status."""


def _die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def _ignore(number: int, frame: object) -> None:
    """Do nothing.  A handler and not SIG_IGN, which programs started by tasks would inherit."""


def _be_deaf() -> None:
    """Leave it to the worker's parent to answer the signals that a whole group gets."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, _ignore)


class Zygote:
    """The forking process, seen from the pool.

    :param be_child: what a child is.
    """

    def __init__(self, be_child: BeChild) -> None:
        self._be_child = be_child
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                ours.close()
                _die_with_parent(parent)
                status = self._live(theirs)
            finally:
                os._exit(status)
        theirs.close()
        ours.setblocking(False)
        self.sock = ours

    def spawn(self, number: int) -> socket.socket:
        """Fork the child of a number; return our end of its pipe.

        :raises OSError: the zygote is gone.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            rights = array.array("i", [theirs.fileno()])
            self.sock.sendmsg(
                [_REQUEST.pack(number)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        return ours

    def events(self) -> list[tuple[int, int, int]] | None:
        """Return what happened: (number, pid, status or -1 for born); None when the zygote died."""
        found: list[tuple[int, int, int]] = []
        while True:
            try:
                data = self.sock.recv(_EVENT.size)
            except BlockingIOError:
                return found
            except OSError:
                return found or None
            if not data:
                return found or None
            found.append(_EVENT.unpack(data))

    def close(self) -> None:
        """End the zygote and with it what is left of its children."""
        self.sock.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    # -- in the zygote ----------------------------------------------------------------------------

    def _live(self, sock: socket.socket) -> int:
        _be_deaf()
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, _ignore)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        gc.freeze()
        numbers: dict[int, int] = {}
        while True:
            ready, _, _ = select.select([sock.fileno(), wake_read], [], [])
            if wake_read in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake_read, 4096)
                self._reap(sock, numbers)
            if sock.fileno() in ready and not self._answer(sock, numbers, (wake_read, wake_write)):
                return 0

    def _answer(self, sock: socket.socket, numbers: dict[int, int], wake: tuple[int, int]) -> bool:
        data, ancillary, _, _ = sock.recvmsg(_REQUEST.size, socket.CMSG_SPACE(4))
        if not data:
            return False
        number = _REQUEST.unpack(data)[0]
        fd = array.array("i", ancillary[0][2][:4])[0]
        zygote = os.getpid()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for other in wake:
                    os.close(other)
                sock.close()
                _die_with_parent(zygote)
                status = self._be_child(socket.socket(fileno=fd), number)
            finally:
                os._exit(status)
        os.close(fd)
        numbers[pid] = number
        sock.send(_EVENT.pack(number, pid, -1))
        return True

    @staticmethod
    def _reap(sock: socket.socket, numbers: dict[int, int]) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in numbers:
                sock.send(_EVENT.pack(numbers.pop(pid), pid, status))
