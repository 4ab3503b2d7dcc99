"""Django's connections around tasks and forks.

Owns: tidy, close_all, forget.
Thread rule: `tidy` acts on the thread that it is called in; for an `async def` task on the one that
asgiref gives the ORM.  May import: django.
"""

from __future__ import annotations

import inspect
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asgiref.sync import SyncToAsync
from django import db
from django.core.cache import caches, close_caches

logger = logging.getLogger("celeriac.django")

_kept: list[Any] = []
"""Connections of a parent.  Held for ever: a destructor would say goodbye to the server for both."""


def tidy(task: Any) -> None:
    """Close connections that are broken or older than CONN_MAX_AGE, before or after a task."""
    if inspect.iscoroutinefunction(task.run):
        # Its queries, and those of others that run meanwhile, are made on this one thread.
        SyncToAsync.single_thread_executor.submit(_tidy)
    else:
        for connection in db.connections.all(initialized_only=True):
            if connection.in_atomic_block:
                logger.error("%s left a transaction open: it is rolled back", task.name)
                _close_in_transaction(connection)
        _tidy()


def _tidy() -> None:
    db.reset_queries()
    db.close_old_connections()
    close_caches()


def _close_in_transaction(connection: Any) -> None:
    raw, connection.connection = connection.connection, None
    _restart(connection)
    if raw is not None:
        raw.close()


def _restart(connection: Any) -> None:
    """Bring a wrapper that has lost its connection back to how it began."""
    connection.in_atomic_block = False
    connection.savepoint_ids = []
    connection.atomic_blocks = []
    connection.run_on_commit = []
    connection.needs_rollback = False
    connection.closed_in_transaction = False


def close_all() -> None:
    """Close every connection of this thread, and every pool: nothing is there to be inherited."""
    for connection in db.connections.all(initialized_only=True):
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
    # The thread that runs the ORM for coroutines was the parent's too.
    _kept.append(SyncToAsync.single_thread_executor)
    SyncToAsync.single_thread_executor = ThreadPoolExecutor(max_workers=1)
