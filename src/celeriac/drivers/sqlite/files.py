"""The files beside a database: the write lock, the FIFOs that wake, the locks that prove life.

Owns: Place, WriteLock, Doorbell, ring, Alive.  Thread rule: a Doorbell belongs to one waiter.
May import: kernel.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import select
import stat
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from celeriac.kernel.errors import BrokerRejected, BrokerUnavailable, ImproperlyConfigured


class Place:
    """A database file and the folder of its helpers, made safe.

    :param path: of the database.
    :raises ImproperlyConfigured: the file is a link, somebody else's, or open to others.
    :raises BrokerRejected: the folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path.with_name(path.name + ".d")
        self.lock = self.folder / "write.lock"
        self.doors = self.folder / "wake"
        self.waiters = self.folder / "waiters"
        self.alive = self.folder / "alive"

    def prepare(self) -> None:
        """Make what is missing, with rights for the owner alone."""
        try:
            if not self.path.parent.is_dir():
                raise BrokerRejected(f"there is no folder {self.path.parent} for the SQLite file")
            self._check(self.path)
            for folder in (self.folder, self.doors, self.waiters, self.alive):
                folder.mkdir(mode=0o700, exist_ok=True)
                self._check(folder)
            if not self.path.exists():
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600))
        except OSError as error:
            raise BrokerRejected(
                f"the SQLite file {self.path} cannot be made or opened: {error.strerror}; "
                "check the folder's rights and free space"
            ) from error

    def _check(self, path: Path) -> None:
        try:
            found = path.lstat()
        except FileNotFoundError:
            return
        if stat.S_ISLNK(found.st_mode):
            raise ImproperlyConfigured(f"{path} is a symbolic link: name the file itself")
        if not stat.S_ISREG(found.st_mode) and path is self.path:
            raise ImproperlyConfigured(f"{path} is no regular file")
        if found.st_uid != os.geteuid() and os.geteuid() != 0:
            raise ImproperlyConfigured(f"{path} belongs to another user (uid {found.st_uid})")
        if found.st_mode & 0o022:
            raise ImproperlyConfigured(f"{path} can be written by others: chmod 600 it")

    def door(self, queue: str) -> Path:
        """Return the FIFO of a queue."""
        name = hashlib.blake2b(queue.encode(), digest_size=12).hexdigest()
        return self.doors / name


class WriteLock:
    """The lock that every writer takes first, so that the kernel queues them fairly.

    SQLite's own busy handler sleeps and retries: with six writers p99 was 34 ms, and 2 to 5 ms with
    this.  It also keeps a checkpoint from meeting a write, which old SQLite versions need.

    :param patience: seconds to wait before giving up, with the holder named.
    """

    def __init__(self, path: Path, patience: float) -> None:
        self._path, self._patience = path, patience
        self._fd = self._held = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._held = self._fd
        except OSError:
            self._held = self._wait()

    def _wait(self) -> int:
        """Stand in the kernel's queue, which is fair, and give up after a while.

        A thread of its own can be left waiting; polling would be let in by luck: p99 31 to 48 ms
        with six writers.
        """
        fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        mutex, locked, abandoned = threading.Lock(), threading.Event(), threading.Event()

        def stand() -> None:
            fcntl.flock(fd, fcntl.LOCK_EX)
            with mutex:
                locked.set()
                if abandoned.is_set():
                    os.close(fd)

        threading.Thread(target=stand, name="celeriac-lock", daemon=True).start()
        if not locked.wait(self._patience):
            with mutex:
                abandoned.set()
                late = locked.is_set()
            if not late:
                raise BrokerUnavailable(
                    f"the SQLite file is locked by {self._holder()} for more than "
                    f"{self._patience:g} s"
                )
        return fd

    def _holder(self) -> str:
        inode = os.fstat(self._fd).st_ino
        with contextlib.suppress(OSError):
            for line in Path("/proc/locks").read_text().splitlines():
                fields = line.split()
                if "FLOCK" in fields and fields[5].endswith(f":{inode}") and "->" not in fields:
                    pid = fields[4]
                    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                    return f"process {pid} (state {state})"
        return "another process"

    def __exit__(self, *error: object) -> None:
        if self._held == self._fd:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        else:
            os.close(self._held)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


class Doorbell:
    """What a waiter sleeps on: FIFOs beside the file, and one wake-up of its own.

    :param paths: FIFOs, made where missing.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._own_read, self._own_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._fds: list[int] = []
        self._poll = select.poll()
        self._poll.register(self._own_read, select.POLLIN)
        self._lock = threading.Lock()
        self._closed = False
        for path in paths:
            self._open(path)

    @classmethod
    def own(cls, path: Path) -> Doorbell:
        """Return a bell on a FIFO of its own; whoever finds it there finds it open."""
        # Made under another name: a FIFO that nobody has open is taken for a dead one's.
        hidden = path.parent.parent / f".{path.name}"
        bell = cls([hidden])
        hidden.rename(path)
        return bell

    def _open(self, path: Path) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._fds.append(fd)
        self._poll.register(fd, select.POLLIN)

    def wait(self, seconds: float) -> bool:
        """Sleep until a ring or `seconds` have passed; True where `wake` was called."""
        try:
            ready = self._poll.poll(max(0.0, seconds) * 1000)
        except InterruptedError:
            return False
        woken = False
        for fd, _ in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(fd, 4096)
            woken |= fd == self._own_read
        return woken

    def wake(self) -> None:
        """End a `wait`, from any thread."""
        with self._lock:
            if not self._closed:
                with contextlib.suppress(BlockingIOError):
                    os.write(self._own_write, b"!")

    def close(self) -> None:
        """Let go of the FIFOs."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for fd in (self._own_read, self._own_write, *self._fds):
                os.close(fd)


MOST_OPEN = 64
"""Doors of queues that one process keeps open to ring."""


class Ringer:
    """Rings the doorbells of queues and of waiters.

    :param place: where they are.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._fds: dict[str, int] = {}
        self._waiters: tuple[int, tuple[Path, ...]] = (-1, ())

    def queue(self, queue: str, times: int) -> None:
        """Wake up to `times` workers that wait for a queue."""
        with self._lock:  # or one thread would write to what another has just closed
            fd = self._fds.get(queue)
            if fd is None:
                path = self._place.door(queue)
                with contextlib.suppress(FileExistsError):
                    os.mkfifo(path, 0o600)
                if len(self._fds) >= MOST_OPEN:
                    os.close(self._fds.pop(next(iter(self._fds))))
                fd = self._fds[queue] = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            with contextlib.suppress(BlockingIOError):
                os.write(fd, b"!" * min(times, 8))

    def waiters(self) -> None:
        """Wake everyone who waits for results or news."""
        with contextlib.suppress(OSError):
            changed = os.stat(self._place.waiters).st_mtime_ns
            if self._waiters[0] != changed:
                names = os.listdir(self._place.waiters)
                self._waiters = (changed, tuple(self._place.waiters / name for name in names))
        for path in self._waiters[1]:
            self._ring(path)

    @staticmethod
    def _ring(path: Path) -> None:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nobody has it open: its owner is dead
                with contextlib.suppress(OSError):
                    path.unlink()
            return
        try:
            os.write(fd, b"!")
        except (BlockingIOError, BrokenPipeError):
            pass  # it is full: the waiter has enough to wake it; or the waiter has just left
        finally:
            os.close(fd)

    def close(self) -> None:
        """Let go of the FIFOs."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()


class Alive:
    """A file that a consumer keeps locked while it lives; the kernel unlocks it at its death."""

    def __init__(self, place: Place, holder: int) -> None:
        self.path = place.alive / str(holder)
        self._fd = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def close(self) -> None:
        """Die."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        with contextlib.suppress(OSError):
            os.close(self._fd)


def is_dead(place: Place, holder: int) -> bool:
    """Return whether the consumer's process is gone for certain."""
    path = place.alive / str(holder)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        with contextlib.suppress(OSError):
            path.unlink()
        return True
    finally:
        os.close(fd)


def boot_time() -> float:
    """Return seconds since the machine started, sleep included."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def boot_id() -> str:
    """Return what tells this start of the machine from others."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"
