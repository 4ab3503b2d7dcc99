"""One SQLite file, shared by every role of the driver and every thread of the process.

Writes are committed in groups: a caller queues its operation and takes the lock; whoever has the
lock commits everything that is queued, in one transaction with one fsync, and the others find
theirs done.  A single caller has no thread to hand over to.

Owns: Database.  Thread rule: any thread; connections are remade in a forked child.
May import: kernel.
"""

from __future__ import annotations

import contextlib
import copy
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Generic, TypeVar

import apsw

from celeriac.drivers.sqlite.files import Place, Ringer, WriteLock
from celeriac.drivers.sqlite.mounts import refuse_shared
from celeriac.kernel.errors import (
    BrokerFull,
    BrokerRejected,
    BrokerUnavailable,
    CeleryError,
    ImproperlyConfigured,
)

T = TypeVar("T")

APPLICATION_ID = 0x43454C49
"""'CELI', in the file's header: tells a celeriac file from any other."""
VERSION = 1
"""Of the schema, in `user_version`."""
CHECKPOINT_AT = 16 * 1024 * 1024
"""Bytes of the write-ahead log at which it is emptied into the file."""

_graveyard: list[object] = []
"""Connections that a forked child has from its parent: closing them would let go of its locks."""


class _Operation(Generic[T]):
    """A write that waits for its transaction."""

    __slots__ = ("done", "error", "result", "work")

    def __init__(self, work: Callable[[apsw.Cursor], T]) -> None:
        self.work = work
        self.done = False
        self.error: BaseException | None = None
        self.result: T | None = None


class Database:
    """The file and its connections.

    :param path: of the file.
    :param synchronous: FULL survives a power loss, NORMAL every crash of a process.
    :param busy: seconds to wait for another process's write.
    :param reserve: bytes that publishing leaves free on the disk, so that tasks can still end;
        64 MB or 2 % of the disk, whichever is less, where None.
    :param network_file_system: use a file that is on one all the same.
    """

    def __init__(
        self,
        path: Path,
        *,
        synchronous: str = "FULL",
        busy: float = 5.0,
        reserve: int | None = None,
        network_file_system: bool = False,
    ) -> None:
        if synchronous.upper() not in ("FULL", "NORMAL", "EXTRA"):
            raise ImproperlyConfigured(f"synchronous cannot be {synchronous!r}: FULL or NORMAL")
        self.path = path
        self.place = Place(path)
        self._synchronous, self._busy, self._reserve = synchronous.upper(), busy, reserve
        self._shared_too = network_file_system
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._queue: deque[_Operation[Any]] = deque()
        self._writer: apsw.Connection | None = None
        self._reader: apsw.Connection | None = None
        self._write_lock: WriteLock | None = None
        self._ringer: Ringer | None = None
        self._statvfs_at = 0.0

    # -- opening --------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the file, and make it where it is not there; a second call does nothing."""
        if self._pid != os.getpid():
            self.after_fork()
        if self._writer is not None:
            return
        with self._lock:
            if self._writer is None:
                self._open()

    def _open(self) -> None:
        if not self._shared_too:
            refuse_shared(self.path)
        self.place.prepare()
        with _translated(self.path):
            lock = WriteLock(self.place.lock, self._busy)
            try:
                with lock:
                    writer = self._connect()
                    try:
                        self._prepare(writer)
                    except BaseException:
                        writer.close()
                        raise
                self._reader = self._connect()
            except BaseException:
                lock.close()
                raise
        self._write_lock, self._ringer = lock, Ringer(self.place)
        self._writer = writer

    def _connect(self) -> apsw.Connection:
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW
        connection = apsw.Connection(str(self.path.resolve()), flags=flags)
        connection.set_busy_timeout(int(self._busy * 1000))
        for pragma in (
            "journal_mode=WAL",
            f"synchronous={self._synchronous}",
            # A checkpoint within a commit holds the write lock, and lets the log be written over:
            # a log that grows makes each fsync 2.5 times as long.
            "wal_autocheckpoint=1000",
            "journal_size_limit=67108864",
            "trusted_schema=OFF",
            "temp_store=MEMORY",
            "cache_size=-16000",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        return connection

    def _prepare(self, writer: apsw.Connection) -> None:
        application = writer.pragma("application_id")
        version = writer.pragma("user_version")
        tables = writer.execute("SELECT count(*) FROM sqlite_schema").fetchall()[0][0]
        if application == APPLICATION_ID and version == VERSION:
            return
        if application == APPLICATION_ID:
            raise BrokerRejected(
                f"{self.path} was made by another release of celeriac (schema {version}, this one "
                f"has {VERSION}): drain it with that release, or name another file"
            )
        if tables:
            raise BrokerRejected(f"{self.path} is a SQLite file of another program: name another")
        schema = resources.files("celeriac.drivers.sqlite").joinpath("schema.sql").read_text()
        with writer:
            writer.execute(schema)
            writer.execute(f"PRAGMA application_id={APPLICATION_ID}")
            writer.execute(f"PRAGMA user_version={VERSION}")

    def close(self) -> None:
        """Close every connection; a second call does nothing."""
        if self._pid != os.getpid():
            self.after_fork()
            return
        with self._lock, self._read_lock:
            if self._writer is None:
                return
            with contextlib.suppress(apsw.Error, CeleryError):
                # The last connection that closes empties the log: nothing may be written then.
                assert self._write_lock is not None
                with self._write_lock:
                    if self._reader is not None:
                        self._reader.close()
                    self._writer.close()
            if self._write_lock is not None:
                self._write_lock.close()
            if self._ringer is not None:
                self._ringer.close()
            self._writer = self._reader = self._write_lock = self._ringer = None

    def after_fork(self) -> None:
        """Forget the connections without closing them: they are the parent's."""
        _graveyard.extend([self._writer, self._reader])
        # The lock is the parent's for as long as anybody has it open.
        for ours in (self._write_lock, self._ringer):
            if ours is not None:
                ours.close()
        self._reset()

    # -- reading --------------------------------------------------------------------------------

    def read(self, sql: str, bindings: Any = ()) -> list[Any]:
        """Return the rows of a query; never waits for a writer."""
        self.open()
        with self._read_lock, _translated(self.path):
            if self._reader is None:
                raise BrokerUnavailable(f"{self.path} was closed")
            return list(self._reader.execute(sql, bindings))

    def data_version(self) -> int:
        """Return a number that changes when another connection has written (3 us)."""
        found: int = self.read("PRAGMA data_version")[0][0]
        return found

    # -- writing --------------------------------------------------------------------------------

    def write(self, work: Callable[[apsw.Cursor], T]) -> T:
        """Run `work` in a transaction, together with what other threads write, and commit.

        :raises BrokerUnavailable: nothing was written; trying again may help.
        :raises BrokerRejected: nothing was written; trying again does not help.
        """
        self.open()
        operation = _Operation(work)
        self._queue.append(operation)
        with self._lock:
            if not operation.done:
                self._commit_queued()
        if operation.error is not None:
            raise operation.error
        return operation.result  # type: ignore[return-value]

    def _commit_queued(self) -> None:
        batch = [self._queue.popleft() for _ in range(len(self._queue))]
        try:
            with _translated(self.path):
                self._commit(batch)
        except BaseException as error:
            for operation in batch:
                if operation.error is None:
                    # One each: several threads raise them, and a traceback grows as it is raised.
                    operation.error = copy.copy(error)
            if not isinstance(error, Exception):
                raise
        finally:
            for operation in batch:
                operation.done = True

    def _commit(self, batch: list[_Operation[Any]]) -> None:
        writer, lock = self._writer, self._write_lock
        if writer is None or lock is None:
            raise BrokerUnavailable(f"{self.path} was closed")
        with lock:
            cursor = writer.cursor()
            cursor.execute("BEGIN IMMEDIATE")
            try:
                if len(batch) == 1:
                    batch[0].result = batch[0].work(cursor)
                else:
                    for operation in batch:
                        self._in_savepoint(cursor, operation)
                cursor.execute("COMMIT")
            except BaseException:
                if writer.in_transaction:
                    cursor.execute("ROLLBACK")
                raise

    def _in_savepoint(self, cursor: apsw.Cursor, operation: _Operation[Any]) -> None:
        """Run one of several operations, so that its failure is not the others'."""
        cursor.execute("SAVEPOINT operation")
        try:
            operation.result = operation.work(cursor)
        except Exception as error:
            if not cursor.connection.in_transaction:
                raise  # SQLite has given up the whole transaction
            operation.error = error
            cursor.execute("ROLLBACK TO operation")
        cursor.execute("RELEASE operation")

    @property
    def ringer(self) -> Ringer:
        """What wakes those who wait."""
        self.open()
        assert self._ringer is not None
        return self._ringer

    def check_room(self) -> None:
        """Refuse to take more in while there is still room for tasks to end.

        On a full disk SQLite can delete nothing either: what is accepted could never be settled.

        :raises BrokerFull: the disk is down to the reserve.
        """
        now = time.monotonic()
        if now - self._statvfs_at < 0.1:
            return
        found = os.statvfs(self.path.parent)
        free, size = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
        reserve = self._reserve if self._reserve is not None else min(64 << 20, size // 50)
        if free < reserve:
            raise BrokerFull(
                f"the disk of {self.path} has {free >> 20} MB left, and {reserve >> 20} MB are kept "
                "for tasks to end: make room, or lower the option `reserve`"
            )
        self._statvfs_at = now

    def checkpoint(self) -> None:
        """Empty the write-ahead log into the file when it has grown."""
        self.open()
        try:
            size = os.stat(f"{self.path.resolve()}-wal").st_size
        except OSError:
            return
        if size < CHECKPOINT_AT:
            return
        with self._lock, _translated(self.path):
            if self._writer is not None and self._write_lock is not None:
                with self._write_lock, contextlib.suppress(apsw.BusyError, apsw.LockedError):
                    self._writer.set_busy_timeout(100)
                    try:
                        self._writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                    finally:
                        self._writer.set_busy_timeout(int(self._busy * 1000))


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into the port's two."""
    try:
        yield
    except apsw.FullError as error:
        raise BrokerFull(f"the disk of {path} is full: nothing was written; make room") from error
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise BrokerRejected(
            f"{path} is damaged or no SQLite file ({error}): move it away, or restore a copy"
        ) from error
    except (apsw.ReadOnlyError, apsw.PermissionsError, apsw.AuthError) as error:
        raise BrokerRejected(f"{path} cannot be written ({error}): check its rights") from error
    except apsw.TooBigError as error:
        raise BrokerRejected(f"a message is too large for SQLite ({error})") from error
    except (apsw.BusyError, apsw.LockedError) as error:
        raise BrokerUnavailable(
            f"{path} is in use by a program that does not take celeriac's lock: close it"
        ) from error
    except (apsw.IOError, apsw.CantOpenError) as error:
        raise BrokerUnavailable(f"{path}: {error}") from error
    except apsw.Error as error:
        raise BrokerUnavailable(f"{path}: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def waits_for_room() -> Iterator[None]:
    """Make a full disk something that passes: for what ends tasks, which must be tried again."""
    try:
        yield
    except BrokerFull as error:
        raise BrokerUnavailable(str(error)) from error
