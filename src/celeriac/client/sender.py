"""Sends for coroutines: one thread takes what many of them want to send and sends it together.

Owns: Sender.  Thread rule: `send` on any event loop; one thread publishes.
May import: kernel, ports, client.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from celeriac.client.publisher import Publisher
from celeriac.kernel.errors import BrokerUnavailable
from celeriac.kernel.message import Envelope

MOST = 1_000
"""Calls that are sent together."""

_Call = tuple[Sequence[Envelope], "asyncio.Future[None]", asyncio.AbstractEventLoop]


class Sender:
    """Publishes what coroutines wait to have sent; its thread starts with the first of them.

    :param policy: Celery's `retry_policy`; None tries once.
    """

    def __init__(self, publisher: Publisher, policy: Mapping[str, Any] | None) -> None:
        self._publisher, self._policy = publisher, policy
        self._calls: deque[_Call] = deque()
        self._work = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    async def send(self, envelopes: Sequence[Envelope]) -> None:
        """Return once the broker has the envelopes; as `Publisher.send` otherwise."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        with self._lock:
            if self._closed:
                raise BrokerUnavailable("the app was closed while this was to be sent")
            self._calls.append((envelopes, done, loop))
            if self._thread is None:
                self._start()
        self._work.release()
        await done

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="celeriac-sender", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            self._work.acquire()
            calls: list[_Call] = []
            while self._calls and len(calls) < MOST:
                calls.append(self._calls.popleft())
            if calls:
                self._send(calls)
            elif self._closed:
                return

    def _send(self, calls: Sequence[_Call]) -> None:
        try:
            self._publisher.send([one for call in calls for one in call[0]], self._policy)
        except BrokerUnavailable as error:
            _tell(calls, error)
        except Exception as error:
            if len(calls) > 1:
                # One of them is to blame: the others must not fail with it.
                for call in calls:
                    self._send([call])
                return
            _tell(calls, error)
        else:
            _tell(calls, None)

    def close(self) -> None:
        """End the thread once nothing is left to send."""
        with self._lock:
            self._closed = True
        self._work.release()


def _tell(calls: Sequence[_Call], error: Exception | None) -> None:
    """Wake the coroutines, with one call for each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for _, done, loop in calls:
        by_loop.setdefault(loop, []).append(done)
    for loop, futures in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, futures, error)
        except RuntimeError:
            continue  # the loop was closed meanwhile: nobody waits any more


def _resolve(futures: Sequence[asyncio.Future[None]], error: Exception | None) -> None:
    for future in futures:
        if future.done():  # cancelled
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
