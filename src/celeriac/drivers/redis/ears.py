"""Sleeping until a Celery producer pushes: a blocking command on each list that takes nothing out.

`BLMOVE list list RIGHT RIGHT` waits for a message and puts it back where it was, in one step; a
blocking pop would hold the only copy of it for a moment, which is how Celery's own workers lose some.

Owns: Ears.  Thread rule: the thread that claims.  May import: kernel, drivers.redis, redis.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

from redis import exceptions as redis_errors

from celeriac.drivers.redis.connection import Link, Server
from celeriac.kernel.errors import BrokerUnavailable

BLOCK = 20.0
"""Seconds, about, after which the server answers in any case: it only shows that it is there."""
DEAF = 1.0
"""Seconds until a list that could not be waited on is asked for again."""


class _Ear:
    """One list and the connection that waits on it."""

    __slots__ = ("answer_by", "deaf_until", "link", "list")

    def __init__(self, name: str) -> None:
        self.list = name
        self.link: Link | None = None
        self.answer_by = 0.0
        """`time.monotonic()` by which an answer must be here; 0 where none was asked for."""
        self.deaf_until = 0.0
        """`time.monotonic()` until which there is no use in asking."""

    def hang_up(self) -> None:
        link, self.link, self.answer_by = self.link, None, 0.0
        if link is not None:
            link.close()


class Ears:
    """One sleeper's ears at the lists of some queues."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._ears: tuple[_Ear, ...] = ()

    def listen(self, lists: Sequence[str]) -> None:
        """Wait on these lists from the next `ask` on."""
        if tuple(lists) == tuple(ear.list for ear in self._ears):
            return
        former = {ear.list: ear for ear in self._ears}
        self._ears = tuple(former.pop(name) if name in former else _Ear(name) for name in lists)
        for ear in former.values():
            ear.hang_up()

    @property
    def connections(self) -> list[Any]:
        """The connections on which answers are awaited."""
        return [ear.link.connection for ear in self._ears if ear.link and ear.answer_by]

    @property
    def deaf(self) -> bool:
        """Whether there is a list that cannot be waited on now."""
        return any(ear.deaf_until for ear in self._ears)

    def ask(self) -> None:
        """Ask to be told of messages.

        :raises BrokerUnavailable: the server is away.
        """
        for ear in self._ears:
            if ear.answer_by or time.monotonic() < ear.deaf_until:
                continue
            ear.deaf_until = 0.0
            try:
                if ear.link is None:
                    ear.link = self._server.connect()
                block = BLOCK * random.uniform(0.8, 1.2)
                ear.link.connection.send_command(
                    "BLMOVE", ear.list, ear.list, "RIGHT", "RIGHT", f"{block:.2f}",
                    check_health=False,
                )  # fmt: skip
            except BrokerUnavailable:
                raise
            except Exception as error:
                ear.hang_up()
                raise BrokerUnavailable(
                    f"cannot wait for {self._server.address.shown}: {error}"
                ) from error
            ear.answer_by = time.monotonic() + block + self._server.address.socket_timeout

    def hear(self) -> bool:
        """Read the answers that are there; return whether it is time to look.

        :raises BrokerUnavailable: the server has been silent for too long, or hung up.
        """
        rang = False
        for ear in self._ears:
            if not ear.answer_by or ear.link is None:
                continue
            shown = self._server.address.shown
            try:
                if not ear.link.connection.can_read(0):
                    if time.monotonic() < ear.answer_by:
                        continue
                    raise OSError("no answer")
                ear.answer_by = 0.0
                reply = ear.link.connection.read_response(disconnect_on_error=False)
                rang = rang or reply is not None
            except redis_errors.ResponseError:
                # A full server, for one, does not let itself be waited on: it is looked at instead.
                ear.deaf_until = time.monotonic() + DEAF
            except Exception as error:
                self.close()
                raise BrokerUnavailable(f"the connection to {shown} broke: {error}") from error
        return rang

    def close(self) -> None:
        """Let go of the connections."""
        for ear in self._ears:
            ear.hang_up()
