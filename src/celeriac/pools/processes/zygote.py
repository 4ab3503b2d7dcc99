"""The processes that fork: the zygote makes the pool's children, the keeper makes the zygote.

A process that has threads must not fork: a lock that another thread holds stays locked for ever in
the child.  The keeper is forked while the worker has no threads yet; neither it nor what it forks
has any.  It holds no child of the pool: its one work is to have another zygote ready when one is
killed.

Owns: Forker, Keeper.  Thread rule: all of it belongs to the pool's own thread.
May import: the standard library only.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import gc
import os
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import NoReturn

_EVENT = struct.Struct("=iii")
"""(number, pid, wait status; -1 while it lives); or (number, 0, errno) for a fork that failed."""
_REQUEST = struct.Struct("=i")

Be = Callable[[socket.socket, int], int]
"""Is the process of a number on a socket; returns the exit status."""


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


class Forker:
    """A process that forks others, seen from the pool.

    :param sock: our end of its line.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.pid = 0
        """0 while it is not known."""
        self.gone = False
        """It has ended, and its pid may be another's."""
        self.error = 0
        """The errno for which it could not be forked."""

    def spawn(self, number: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """Have the process of a number forked; return our end of its pipe.

        :raises OSError: the forker is gone.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
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
        """Return what happened; None when the forker died.

        Each is (number, pid, wait status), -1 for born; or (number, 0, errno): it cannot be forked.
        """
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

    def kill(self) -> None:
        """End it, and with it what it forked."""
        if self.pid and not self.gone:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """End it."""
        self.sock.close()
        self.kill()


class Keeper(Forker):
    """The process that forks zygotes, one at a time; the only one that the worker itself forks.

    :param be_child: what a child of the pool is.
    """

    def __init__(self, be_child: Be) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def be_zygote(sock: socket.socket, number: int) -> int:
            return _fork_on_demand(sock, be_child)

        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _become(lambda: _fork_on_demand(theirs, be_zygote), parent)
        theirs.close()
        super().__init__(ours)
        self.pid = pid
        self._zygotes: dict[int, Forker] = {}

    def zygote(self) -> Forker:
        """Have a zygote made.

        :raises OSError: the keeper is gone.
        """
        number = max(self._zygotes, default=0) + 1
        made = self._zygotes[number] = Forker(self.spawn(number, socket.SOCK_SEQPACKET))
        return made

    def hear(self) -> bool:
        """Learn what became of zygotes; False when the keeper died.

        A zygote that could not be forked is told of by the end of its line.
        """
        events = self.events()
        for number, pid, status in events or ():
            if not pid:
                self._zygotes.pop(number).error = status
            elif status < 0:
                self._zygotes[number].pid = pid
            else:
                self._zygotes.pop(number).gone = True
        return events is not None

    def close(self) -> None:
        """End it, the zygote and the children."""
        for zygote in self._zygotes.values():
            zygote.close()
        super().close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


# -- in the processes that fork -------------------------------------------------------------------


def _become(be: Callable[[], int], parent: int) -> NoReturn:
    """Be what was forked, until it ends; it dies with its parent."""
    status = 1
    try:
        _die_with_parent(parent)
        status = be()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _fork_on_demand(sock: socket.socket, be: Be) -> int:
    """Fork what is asked for on `sock` and tell of its end, until `sock` is closed."""
    _be_deaf()
    wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, _ignore)
    signal.set_wakeup_fd(wake[1], warn_on_full_buffer=False)
    gc.freeze()
    numbers: dict[int, int] = {}
    with contextlib.suppress(ConnectionError):  # who asks is gone, and did not read all we said
        while True:
            ready, _, _ = select.select([sock.fileno(), wake[0]], [], [])
            if wake[0] in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake[0], 4096)
                for pid, status in _ended():
                    if pid in numbers:
                        sock.send(_EVENT.pack(numbers.pop(pid), pid, status))
            if sock.fileno() in ready and not _fork_one(sock, be, numbers, wake):
                break
    return 0


def _fork_one(sock: socket.socket, be: Be, numbers: dict[int, int], wake: tuple[int, int]) -> bool:
    """Fork what is asked for; False when nobody asks any more."""
    data, ancillary, _, _ = sock.recvmsg(_REQUEST.size, socket.CMSG_SPACE(4))
    if not data:
        return False
    number = _REQUEST.unpack(data)[0]
    fd = array.array("i", ancillary[0][2][:4])[0]
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        sock.send(_EVENT.pack(number, 0, error.errno or errno.EAGAIN))
        os.close(fd)
        return True
    if pid == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for other in wake:
            os.close(other)
        sock.close()
        _become(lambda: be(socket.socket(fileno=fd), number), parent)
    os.close(fd)
    numbers[pid] = number
    sock.send(_EVENT.pack(number, pid, -1))
    return True


def _ended() -> Iterator[tuple[int, int]]:
    """Reap what has ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status
