"""Runs what `async def` tasks return: on one loop thread per process, limits thrown inside.

Owns: LoopThread, Interruptible.  Thread rule: `run` may be called from any thread but the loop's.
May import: kernel.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine, Generator
from contextvars import copy_context
from typing import Any

from celeriac.kernel.errors import SoftTimeLimitExceeded

SOFT = "celeriac-soft-limit"
"""The message of a cancellation that means a soft time limit."""


class Interruptible:
    """Awaits a coroutine; a cancellation that means the soft limit is thrown in as such.

    Cancelling is the only way to reach a suspended coroutine, and `except CancelledError` is not
    what a task's author writes for a time limit.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine = self._coroutine
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                waits_for = coroutine.throw(error) if error is not None else coroutine.send(value)
            except StopIteration as stop:
                return stop.value
            value, error = None, None
            try:
                value = yield waits_for
            except asyncio.CancelledError as cancelled:
                error = cancelled
                if cancelled.args == (SOFT,):
                    task = asyncio.current_task()
                    if task is not None:
                        task.uncancel()
                    error = SoftTimeLimitExceeded()
            except BaseException as raised:
                error = raised


class LoopThread:
    """An event loop in a thread of its own, started with the first coroutine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def _start(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                loop = self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=loop.run_forever, name="celeriac-loop", daemon=True
                )
                self._thread.start()
            return self._loop

    def close(self) -> None:
        """End the loop, where one runs; what was left on it is dropped."""
        with self._lock:
            loop, self._loop = self._loop, None
            thread = self._thread
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(5.0)
            if not thread.is_alive():
                loop.close()

    def run(self, coroutine: Coroutine[Any, Any, Any], *, name: str | None = None) -> Any:
        """Run a coroutine on the loop, in this context, and return what it returns.

        :param name: of the asyncio task, by which it is found when somebody looks at what runs.

        A soft time limit that is raised here, in the thread that waits, is thrown into it.
        """
        loop = self._loop or self._start()
        outcome: concurrent.futures.Future[Any] = concurrent.futures.Future()
        context = copy_context()
        task: asyncio.Task[Any] | None = None

        async def drive() -> Any:
            return await Interruptible(coroutine)

        def begin() -> None:
            nonlocal task
            task = loop.create_task(drive(), name=name, context=context)
            task.add_done_callback(finish)

        def finish(done: asyncio.Task[Any]) -> None:
            if done.cancelled():
                outcome.set_exception(asyncio.CancelledError())
            elif (error := done.exception()) is not None:
                outcome.set_exception(error)
            else:
                outcome.set_result(done.result())

        def interrupt() -> None:
            if task is not None:
                task.cancel(SOFT)

        loop.call_soon_threadsafe(begin)
        while True:
            try:
                return outcome.result()
            except SoftTimeLimitExceeded:
                if outcome.done():
                    raise
                loop.call_soon_threadsafe(interrupt)
