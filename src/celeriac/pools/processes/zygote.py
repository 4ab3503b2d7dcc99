"""The process that forks the children.

The pool's own process has threads, and a fork takes their locks along, held for ever.  So one
process is forked from it before there are any, which has the app imported and does nothing but
fork, on request, and tell who has ended.  The memory of the app is shared by all children.

A program that starts a pool while it has threads, or whose zygote was killed, forks with threads:
Python itself repairs its locks in the child (imports, logging, stdio); the locks of other
libraries are as they were.  The zygote touches nothing but its sockets; a child runs `make_run`,
which opens connections anew.

Nobody is left behind: on Linux the kernel kills a child with its parent, elsewhere (and there too)
the end of the lifeline, a pipe that only the pool's process holds open, does.

Owns: Zygote.  Thread rule: the parent's side belongs to the pool's thread.
May import: kernel, pools.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import selectors
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from celeriac.pools.processes.pipe import hidden

_ASK = struct.Struct("=ci")
_TELL = struct.Struct("=ciii")
FORK, KILL, QUIT = b"F", b"K", b"Q"
BORN, DIED, BARREN = b"B", b"D", b"E"
_PR_SET_PDEATHSIG = 1

ChildMain = Callable[[int, socket.socket, int], int]
"""Runs a child: its row, its socket, the lifeline.  Returns its exit status."""

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class Zygote:
    """The parent's side: asks for children and for their end.

    :param child_main: what each child runs.
    :param lifeline: the end of a pipe that is readable once the parent is gone.
    :param tied: whether the kernel may end the zygote with the thread that forks it.
    :raises OSError: the fork failed.
    """

    def __init__(self, child_main: ChildMain, lifeline: int, *, tied: bool) -> None:
        self.control, theirs = socket.socketpair()
        hidden.add(self.control)
        for stream in (sys.stdout, sys.stderr):
            # What is buffered would be written again by every child.
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):
                pass
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            _live(parent if tied else 0, theirs, lifeline, child_main)
        theirs.close()
        self.control.setblocking(False)
        self._half = b""

    def ask_fork(self, row: int, sock: socket.socket) -> None:
        """Ask for a child; `sock` becomes its end of the pipe."""
        socket.send_fds(self.control, [_ASK.pack(FORK, row)], [sock.fileno()])

    def ask_kill(self, row: int) -> None:
        """Ask for a child's end.

        The zygote alone reaps, so it alone knows that the pid is still the child's.
        """
        self.control.send(_ASK.pack(KILL, row))

    def events(self) -> Iterator[tuple[bytes, int, int, int]]:
        """Return what happened: (BORN, row, pid, 0), (DIED, row, pid, status) or (BARREN, row, errno, 0).

        :raises EOFError: the zygote is gone.
        """
        try:
            data = self.control.recv(_TELL.size * 64)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            raise EOFError("the zygote is gone")
        data = self._half + data
        whole = len(data) - len(data) % _TELL.size
        self._half = data[whole:]
        yield from _TELL.iter_unpack(data[:whole])

    def close(self, within: float = 1.0) -> None:
        """End the zygote, and every child with it; returns once it is reaped."""
        try:
            self.control.send(_ASK.pack(QUIT, 0))
        except OSError:
            pass
        ends = time.monotonic() + within
        killed = False
        try:
            while os.waitpid(self.pid, os.WNOHANG) == (0, 0):
                if not killed and time.monotonic() > ends:
                    os.kill(self.pid, signal.SIGKILL)
                    killed = True
                time.sleep(0.001)
        except ChildProcessError:
            pass  # the program reaps all its children by itself
        self.control.close()


def leave_others_alone() -> None:
    """Forget what a fork took along that is not this process's."""
    for sock in list(hidden):
        sock.close()


def reset_signals() -> None:
    """Take the parent's signal handlers away, and let the parent decide about the end.

    Ctrl-C goes to all processes of a terminal.  The signals get a handler that does nothing and are
    not ignored, or the programs that a task starts would ignore them too.
    """
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, _nothing)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def die_with(parent: int) -> None:
    """Have the kernel end this process with its parent, where it can."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def _nothing(number: int, frame: object) -> None:
    pass


def _live(
    parent: int, control: socket.socket, lifeline: int, child_main: ChildMain
) -> NoReturn:
    """Be the zygote, or, after a fork, a child of it."""
    status = 70
    try:
        leave_others_alone()
        reset_signals()
        if parent:
            die_with(parent)
        threading.current_thread().name = "MainThread"
        _Nursery(control, lifeline, child_main).serve()
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        # Never back into the program that was forked.
        os._exit(status)


class _Nursery:
    """The zygote's side: forks, reaps, tells."""

    def __init__(self, control: socket.socket, lifeline: int, child_main: ChildMain) -> None:
        self._control, self._lifeline, self._child_main = control, lifeline, child_main
        self._pids: dict[int, int] = {}  # row -> pid
        self._pid = os.getpid()
        self._bell, self._rings = socket.socketpair()
        self._bell.setblocking(False)
        self._rings.setblocking(False)
        signal.signal(signal.SIGCHLD, _nothing)
        signal.set_wakeup_fd(self._rings.fileno(), warn_on_full_buffer=False)
        # No collection ever writes to the pages that all children share.
        self._collected = gc.isenabled()
        gc.disable()
        gc.freeze()

    def serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            for source in (self._control, self._bell, self._lifeline):
                selector.register(source, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._lifeline in ready:
                    break
                if self._bell in ready:
                    self._reap()
                if self._control in ready and not self._answer(selector):
                    break
        self._end()

    def _answer(self, selector: selectors.BaseSelector) -> bool:
        data, fds, _, _ = socket.recv_fds(self._control, _ASK.size, 1)
        if not data:
            return False
        kind, row = _ASK.unpack(data)
        if kind == FORK:
            self._fork(row, fds[0], selector)
        elif kind == KILL and (pid := self._pids.get(row)):
            os.kill(pid, signal.SIGKILL)
        return bool(kind != QUIT)

    def _fork(self, row: int, fd: int, selector: selectors.BaseSelector) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            os.close(fd)
            self._tell(BARREN, row, error.errno or errno.EAGAIN)
            return
        if pid == 0:
            status = 70
            try:
                status = self._be_child(row, fd, selector)
            finally:
                os._exit(status)
        os.close(fd)
        self._pids[row] = pid
        self._tell(BORN, row, pid)

    def _be_child(self, row: int, fd: int, selector: selectors.BaseSelector) -> int:
        reset_signals()
        die_with(self._pid)
        selector.close()
        for sock in (self._control, self._bell, self._rings):
            sock.close()
        if self._collected:
            gc.enable()
        return self._child_main(row, socket.socket(fileno=fd), self._lifeline)

    def _reap(self) -> None:
        try:
            self._bell.recv(4096)
        except BlockingIOError:
            pass
        while self._pids:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            row = next((row for row, known in self._pids.items() if known == pid), None)
            if row is not None:
                del self._pids[row]
                self._tell(DIED, row, pid, os.waitstatus_to_exitcode(status))

    def _tell(self, kind: bytes, row: int, value: int, status: int = 0) -> None:
        try:
            self._control.sendall(_TELL.pack(kind, row, value, status))
        except OSError:
            pass  # the parent is gone, which the lifeline tells too

    def _end(self) -> None:
        for pid in self._pids.values():
            os.kill(pid, signal.SIGKILL)
        for pid in self._pids.values():
            os.waitpid(pid, 0)
