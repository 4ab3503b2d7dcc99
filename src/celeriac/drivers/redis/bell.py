"""Sleeping until a queue rings: a blocking pop that stays open between claims.

A worker that has nothing to do costs the server one command in some seconds.

Owns: Bell.  Thread rule: `wake` and `close` from any thread, the rest from the one that claims.
May import: kernel, drivers.redis.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence

from celeriac.drivers.redis.connection import Link, Server
from celeriac.drivers.redis.ears import Ears
from celeriac.drivers.redis.waking import Waking
from celeriac.kernel.errors import BrokerRejected, BrokerUnavailable

logger = logging.getLogger("celeriac.worker")

BLOCK = 6.0
"""Seconds, about, after which the server answers in any case.  Then the worker looks for itself: a
token may have gone to one that died with it."""


class Bell:
    """One sleeper's ear."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._waking = Waking()
        self.ears = Ears(server)
        """What listens at the lists of a Celery fleet."""
        self._link: Link | None = None
        self._number: int | None = None
        """What the server calls the connection; None where it does not tell."""
        self.rang = False
        """Whether a token was taken that nobody has looked for yet."""
        self._keys: tuple[str, ...] = ()
        self._answer_by = 0.0
        self._asked = False
        self._heard = False

    def listen(self, keys: Sequence[str]) -> None:
        """Wait for tokens in these lists, from the next `wait` on."""
        if tuple(keys) != self._keys:
            self._keys = tuple(keys)
            if self._asked:
                self._hang_up()

    @property
    def asked(self) -> bool:
        """Whether the server has been asked to ring and has not answered."""
        return self._asked and not self._heard

    def ask(self) -> None:
        """Ask to be rung."""
        self._heard = False
        self.ears.ask()
        if self._asked or not self._keys:
            return
        if self._link is None:
            self._link = self._connect()
        block = BLOCK * random.uniform(0.8, 1.2)
        try:
            self._link.connection.send_command(
                "BLPOP", *self._keys, f"{block:.2f}", check_health=False
            )
        except Exception as error:
            self._hang_up()
            raise BrokerUnavailable(
                f"cannot wait for {self._server.address.shown}: {error}"
            ) from error
        self._asked = True
        self._answer_by = time.monotonic() + block + self._server.address.socket_timeout

    def _connect(self) -> Link:
        link = self._server.connect()
        try:
            self._number = int(link.call("CLIENT", "ID"))
        except BrokerRejected:
            link.close()
            link, self._number = self._server.connect(), None
        return link

    def silence(self) -> bool:
        """Take back what was asked; return whether a token may have come that somebody must get."""
        if not self._asked:
            return self.rang
        link, self._asked = self._link, False
        try:
            if link is not None and self._number is not None:
                ended = self._server.call("CLIENT", "UNBLOCK", self._number)
                if ended or link.connection.can_read(0):
                    self.rang = link.connection.read_response() is not None or self.rang
                    return self.rang
        except Exception as error:
            logger.debug("a blocked connection could not be unblocked: %s", error)
        if link is not None:
            link.close()
        self._link = None
        return True

    def wait(self, timeout: float) -> tuple[bool, bool]:
        """Wait for up to `timeout` seconds; return whether it rang, and whether `wake` was called.

        An answer without a token counts as a ring: it is time to look.

        :raises BrokerUnavailable: the server has been silent for too long, or hung up.
        """
        link = self._link
        if link is None or not self._asked:
            return False, self._waking.wait((), timeout)[1]
        left = self._answer_by - time.monotonic()
        others = self.ears.connections
        readable, woken = self._waking.wait(
            (link.connection, *others), max(0.0, min(timeout, left))
        )
        if others and self.ears.hear():
            self._heard = True
            return True, woken
        if readable and (not others or link.connection.can_read(0)):
            self._asked = False
            try:
                self.rang = link.connection.read_response() is not None or self.rang
            except Exception as error:
                self._hang_up()
                raise BrokerUnavailable(
                    f"the connection to {self._server.address.shown} broke: {error}"
                ) from error
            return True, woken
        if time.monotonic() >= self._answer_by:
            self._hang_up()
            raise BrokerUnavailable(f"{self._server.address.shown} is silent")
        return False, woken

    def wake(self) -> None:
        """End a wait."""
        self._waking.wake()

    def _hang_up(self) -> None:
        self.ears.close()
        link, self._link, self._asked = self._link, None, False
        if link is not None:
            self._server.lost_sight()
            link.close()

    def close(self) -> None:
        """Let go of the connection.  A token that it has taken is passed on by who looks next."""
        self._hang_up()
        self._waking.close()
