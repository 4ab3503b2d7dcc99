"""A real worker in a thread of the test's process.

Owns: running_worker, as_current.  Thread rule: `running_worker` from any thread.
May import: kernel, client, worker, drivers.memory.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from celeriac.client import current
from celeriac.client.app import Celeriac
from celeriac.drivers.memory import MemoryFamily
from celeriac.worker.worker import Worker


@contextlib.contextmanager
def as_current(app: Celeriac) -> Iterator[None]:
    """Make `app` the one that shared tasks belong to, in every thread."""
    former = current._default
    current.set_default_app(app)
    token = current.push_app(app)
    try:
        yield
    finally:
        current.set_default_app(former)
        with contextlib.suppress(ValueError):  # an async fixture ends in another context
            current._app.reset(token)


@contextlib.contextmanager
def running_worker(
    app: Celeriac,
    *,
    pool: str = "threads",
    concurrency: int = 2,
    timeout: float = 10.0,
    in_memory: bool = True,
    **options: Any,
) -> Iterator[Worker]:
    """Run a real worker of `app` in a thread inside the block.

    :param in_memory: put a broker and results in memory in the place of the app's own.
    :param timeout: seconds that it may take to start, and to end.
    :param options: as `celeriac.worker.worker.Worker` takes them.
    :raises AssertionError: it did not start or end in time; what it died of is the cause.
    """
    with contextlib.ExitStack() as stack:
        if in_memory:
            family = MemoryFamily("memory://worker", {"private": True})
            stack.enter_context(app.standing_in(family))
        stack.enter_context(as_current(app))
        worker: Worker = app.Worker(pool=pool, concurrency=concurrency, **options)
        died: list[BaseException] = []
        ended = threading.Event()

        def run() -> None:
            try:
                worker.start()
            except BaseException as error:
                died.append(error)
            finally:
                ended.set()
                worker.ready.set()

        threading.Thread(target=run, name="celeriac-test-worker", daemon=True).start()
        if not worker.ready.wait(timeout) or died:
            raise AssertionError("the worker did not start") from (died[0] if died else None)
        try:
            yield worker
        finally:
            if not worker.shutdown.asked:
                worker.stop()
            if not ended.wait(timeout):
                worker.stop("cold")
                if not ended.wait(timeout):
                    raise AssertionError(f"the worker did not end within {2 * timeout} s")
        if died:
            raise AssertionError("the worker died") from died[0]
