"""The pools against their contract."""

from __future__ import annotations

import time
from pathlib import Path

from celeriac.pools.aio import AsyncioPool
from celeriac.pools.processes import ProcessPool
from celeriac.pools.solo import SoloPool
from celeriac.pools.threads import ThreadPool
from celeriac.ports.pool import Pool
from celeriac.testing.contract.pool import Gate, Heard, PoolContract, deliveries, delivery, ids
from celeriac.testing.eventually import eventually, in_thread


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

    def test_no_function_begins_while_a_coroutine_ends(
        self, pool: Pool, heard: Heard, gate: Gate, tmp_path: Path
    ) -> None:
        other = Gate(tmp_path / "other")
        pool.submit([delivery("held", b"async " + gate.held)])
        functions = deliveries("f", self.most + 2, other.held)
        pool.submit(functions)
        eventually(lambda: gate.begun() and len(other.begun()) == self.most, every=0.005)
        with in_thread(lambda: pool.stop(deadline=time.monotonic() + 60)) as stopping:
            late = deliveries("late", 1)

            def refused() -> bool:
                pool.submit(late)
                return bool(heard.back)

            eventually(refused)
            other.open()
            heard.wait(functions[: self.most])
            gate.open()
            left = stopping.value()
        assert isinstance(left, list)
        assert set(ids(functions[self.most :])) <= set(ids(left))
        assert other.begun() == set(ids(functions[: self.most]))


class TestAsyncioWithFunctions(PoolContract):
    """Four plain functions, in the threads of an asyncio pool."""

    most = 4

    def new_pool(self, size: int) -> Pool:
        return AsyncioPool(size)


class TestProcesses(PoolContract):
    """Two processes."""

    def new_pool(self, size: int) -> Pool:
        return ProcessPool(size)
