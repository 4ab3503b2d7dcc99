"""The pools against their contract."""

from __future__ import annotations

from celeriac.pools.aio import AsyncioPool
from celeriac.pools.processes import ProcessPool
from celeriac.pools.solo import SoloPool
from celeriac.pools.threads import ThreadPool
from celeriac.ports.pool import Pool
from celeriac.testing.contract.pool import PoolContract


class TestSolo(PoolContract):
    """One at a time."""

    most = 1
    resizes = False

    def new_pool(self, size: int) -> Pool:
        return SoloPool(size)


class TestThreads(PoolContract):
    """Two threads."""

    def new_pool(self, size: int) -> Pool:
        return ThreadPool(size)


class TestAsyncio(PoolContract):
    """Four coroutines on a loop."""

    most = 4
    verb = b"async "

    def new_pool(self, size: int) -> Pool:
        return AsyncioPool(size)


class TestAsyncioWithFunctions(PoolContract):
    """Four plain functions, in the threads of an asyncio pool."""

    most = 4

    def new_pool(self, size: int) -> Pool:
        return AsyncioPool(size)


class TestProcesses(PoolContract):
    """Two processes."""

    def new_pool(self, size: int) -> Pool:
        return ProcessPool(size)
