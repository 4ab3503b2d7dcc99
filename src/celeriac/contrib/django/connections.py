"""Django's connections around tasks and forks.

Owns: begins, ends, close_all, forget.
Thread rule: `begins` and `ends` act on the thread that they are called in; for an `async def` task
on the one that
asgiref gives the ORM.  May import: django.
"""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asgiref.sync import SyncToAsync
from django import db
from django.core.cache import caches, close_caches

logger = logging.getLogger("celeriac.django")

_kept: list[Any] = []
"""Connections of a parent.  Held for ever: a destructor would say goodbye to the server for both."""


_coroutines: set[str] = set()
"""Ids of the `async def` tasks that run now.  They share the connections of one thread."""
_lock = threading.Lock()


def begins(task: Any) -> None:
    """Close connections that are broken or older than CONN_MAX_AGE, before a task."""
    _tidy_for(task, _coroutines.add)


def ends(task: Any) -> None:
    """Close them after a task, which may have left a transaction open."""
    _tidy_for(task, _coroutines.discard)


def _tidy_for(task: Any, note: Callable[[str], None]) -> None:
    if not inspect.iscoroutinefunction(task.run):
        _roll_back(task.name)
        _tidy()
        return
    with _lock:
        before = len(_coroutines)
        note(task.request.id)
        alone = before + len(_coroutines) == 1  # the first begins, or the last ends
    # Its queries, and those of others that run meanwhile, are made on this one thread.
    SyncToAsync.single_thread_executor.submit(_tidy if alone else _drop_broken)


def _roll_back(name: str) -> None:
    for connection in db.connections.all(initialized_only=True):
        if connection.in_atomic_block:
            logger.error("%s left a transaction open: it is rolled back", name)
            _restart(connection)
            connection.close()  # to its pool, where it has one


def _tidy() -> None:
    db.reset_queries()
    db.close_old_connections()
    close_caches()


def _drop_broken() -> None:
    # What is only old may be in use, by an iterator of another coroutine.
    for connection in db.connections.all(initialized_only=True):
        if connection.errors_occurred and not connection.in_atomic_block:
            if connection.connection is not None and not connection.is_usable():
                connection.close()


def _restart(connection: Any) -> None:
    """Bring a wrapper back to how it began, whatever became of its connection."""
    connection.in_atomic_block = False
    connection.savepoint_ids = []
    connection.atomic_blocks = []
    connection.run_on_commit = []
    connection.needs_rollback = False
    connection.closed_in_transaction = False


def close_all() -> None:
    """Close every connection of this thread, and every pool: nothing is there to be inherited."""
    for connection in db.connections.all(initialized_only=True):
        if connection.in_atomic_block:
            continue  # a test's, say, that runs a worker inside
        connection.close()
        if hasattr(connection, "close_pool"):
            connection.close_pool()
    caches.close_all()


def forget() -> None:
    """Drop what was inherited without a word to the server, whose other end is the parent's."""
    for connection in db.connections.all(initialized_only=True):
        if connection.connection is not None:
            _kept.append(connection.connection)
            connection.connection = None
            _restart(connection)
        pools = getattr(type(connection), "_connection_pools", None)
        if pools:
            _kept.append(dict(pools))  # its threads are not in this process
            pools.clear()
    _kept.extend(caches.all(initialized_only=True))
    for alias in caches.settings:
        if hasattr(caches._connections, alias):
            del caches[alias]
    # The thread that runs the ORM for coroutines was the parent's too.
    _kept.append(SyncToAsync.single_thread_executor)
    SyncToAsync.single_thread_executor = ThreadPoolExecutor(max_workers=1)
