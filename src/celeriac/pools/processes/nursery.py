"""All that forks for the pool, as one: there is a zygote as long as there is a keeper.

Owns: Nursery.  Thread rule: belongs to the pool's I/O thread.  May import: pools.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import time

from celeriac.pools.processes.zygote import Forker, Keeper

logger = logging.getLogger("celeriac.pool")

AGAIN = 1.0
"""Seconds until the next try where the system has no process left."""


class Nursery:
    """Has children forked, and the zygote replaced that forks them.

    :param selector: where `hear` is waited for, under this object as the key's data.
    """

    def __init__(self, keeper: Keeper, selector: selectors.BaseSelector) -> None:
        self._keeper, self._selector = keeper, selector
        self._selector.register(self._keeper.sock, selectors.EVENT_READ, self)
        self._zygote: Forker | None = None
        self._next = 0.0
        self.failure: str | None = None
        """Why nothing can be forked any more."""

    def pause(self) -> float | None:
        """Return the seconds until `spawn` is worth another try; None where that is now."""
        left = self._next - time.monotonic()
        return left if left > 0 else None

    def spawn(self, number: int) -> socket.socket | None:
        """Have the child of a number forked; return our end of its pipe, or None: not now."""
        if self.failure is not None or self.pause() is not None:
            return None
        with contextlib.suppress(OSError):  # who is gone is heard of next
            if self._zygote is None:
                self._zygote = self._keeper.zygote()
                self._selector.register(self._zygote.sock, selectors.EVENT_READ, self)
            return self._zygote.spawn(number)
        return None

    def hear(self) -> list[tuple[int, int, int]] | None:
        """Return what happened, as `Forker.events`; None when every child has lost its zygote."""
        zygote = self._zygote
        events = [] if zygote is None else zygote.events()
        # The keeper second: when a zygote's line has ended, the keeper has said why.
        if self.failure is None and not self._keeper.hear():
            self._selector.unregister(self._keeper.sock)
            who = f"the keeper process {self._keeper.pid}"
            self.failure = f"{who} was killed: nothing can be forked"
        if zygote is not None and events is None:
            self._drop(zygote)
        if any(not pid for _, pid, _ in events or ()):
            self._next = time.monotonic() + AGAIN
        return events

    def _drop(self, zygote: Forker) -> None:
        if zygote.error:
            logger.error("the zygote process cannot be forked: %s", os.strerror(zygote.error))
            self._next = time.monotonic() + AGAIN
        elif self.failure is None:
            logger.error("the zygote process %d was killed, and its children with it", zygote.pid)
        self._selector.unregister(zygote.sock)
        zygote.close()
        self._zygote = None

    def kill(self, why: str) -> None:
        """Kill the zygote, which does not do what it must, or the keeper where there is none."""
        zygote = self._zygote
        if zygote is not None and zygote.pid:
            logger.error("the zygote process %d is killed and replaced: %s", zygote.pid, why)
            zygote.kill()
        else:
            logger.error("the keeper process %d is killed: %s", self._keeper.pid, why)
            self._keeper.kill()

    def close(self) -> None:
        """End all of them, and the children."""
        self._keeper.close()
