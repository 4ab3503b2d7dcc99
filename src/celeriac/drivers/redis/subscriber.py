"""One connection that listens to any number of channels.

Owns: Subscriber.  Thread rule: `wake` from any thread, the rest from one at a time.
May import: kernel, drivers.redis.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from celeriac.drivers.redis.connection import Link, Server
from celeriac.drivers.redis.waking import Waking
from celeriac.kernel.errors import BrokerUnavailable

SLICE = 500
"""Channels in one command."""
ALIVE = 10.0
"""Seconds of silence after which the server is asked whether it is there."""


class Subscriber:
    """Listens to channels; connects with the first one."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._waking = Waking()
        self._link: Link | None = None
        self._unread: list[tuple[str, bytes]] = []
        self._confirmed = 0
        self._heard = 0.0
        self._asked_at = 0.0

    @property
    def connected(self) -> bool:
        """Whether it listens; where not, every channel has to be named again."""
        return self._link is not None

    def subscribe(self, channels: Sequence[str], *, patterns: Sequence[str] = ()) -> None:
        """Listen to these too; when it returns, nothing said from now on is missed.

        :param patterns: of more channels, as Redis matches them.
        :raises BrokerUnavailable: the server is away; nothing is listened to any more.
        """
        link = self._link
        if link is None:
            link = self._link = self._server.connect()
            self._confirmed = 0
            self._heard = time.monotonic()
            self._asked_at = 0.0
        wanted = self._confirmed + len(channels) + len(patterns)
        try:
            for start in range(0, len(channels), SLICE):
                some = channels[start : start + SLICE]
                link.connection.send_command("SUBSCRIBE", *some, check_health=False)
            if patterns:
                link.connection.send_command("PSUBSCRIBE", *patterns, check_health=False)
            while self._confirmed < wanted:
                self._unread += self._sort(link.connection.read_response())
        except Exception as error:
            raise self._broken(error) from error

    def unsubscribe(self, channels: Sequence[str]) -> None:
        """Listen to these no longer."""
        link = self._link
        if link is None or not channels:
            return
        try:
            for start in range(0, len(channels), SLICE):
                some = channels[start : start + SLICE]
                link.connection.send_command("UNSUBSCRIBE", *some, check_health=False)
        except Exception as error:
            raise self._broken(error) from error

    def receive(self, wait: float) -> tuple[list[tuple[str, bytes]], bool]:
        """Return (channel, message) pairs, waiting up to `wait` seconds, and whether it was woken.

        :raises BrokerUnavailable: the connection broke; nothing is listened to any more.
        """
        ends = time.monotonic() + wait
        while True:
            found, self._unread = self._unread, []
            if found:
                return found, False
            link = self._link
            left = max(0.0, ends - time.monotonic())
            if link is None:
                return [], self._waking.wait((), left)[1]
            readable, woken = self._waking.wait((link.connection,), min(left, ALIVE / 2))
            try:
                if readable:
                    while True:
                        self._unread += self._sort(link.connection.read_response())
                        if not link.connection.can_read(0):
                            break
                    self._heard, self._asked_at = time.monotonic(), 0.0
                else:
                    self._ask_alive(link)
            except Exception as error:
                raise self._broken(error) from error
            if (woken or time.monotonic() >= ends) and not self._unread:
                return [], woken

    def _ask_alive(self, link: Link) -> None:
        """Find out about a server that is gone without a word."""
        now = time.monotonic()
        if self._asked_at:
            if now - self._asked_at > self._server.address.socket_timeout:
                raise BrokerUnavailable("it is silent")
        elif now - self._heard > ALIVE:
            link.connection.send_command("PING", check_health=False)
            self._asked_at = now

    def _sort(self, reply: Any) -> Iterator[tuple[str, bytes]]:
        if isinstance(reply, list) and reply:
            kind = bytes(reply[0])
            if kind == b"message":
                yield reply[1].decode(), reply[2]
            elif kind == b"pmessage":
                yield reply[2].decode(errors="replace"), reply[3]
            elif kind in (b"subscribe", b"psubscribe"):
                self._confirmed += 1

    def _broken(self, error: Exception) -> BrokerUnavailable:
        self.hang_up()
        self._server.lost_sight()
        if isinstance(error, BrokerUnavailable):
            return error
        shown = self._server.address.shown
        return BrokerUnavailable(f"the connection to {shown} broke: {error}")

    def wake(self) -> None:
        """End a waiting `receive`, or the next one."""
        self._waking.wake()

    def hang_up(self) -> None:
        """Let go of the connection."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def close(self) -> None:
        """Let go of everything."""
        self.hang_up()
        self._waking.close()
