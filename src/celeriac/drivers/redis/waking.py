"""Waiting on connections in a way that another thread can end.

Owns: Waking.  Thread rule: `wake` from any thread, the rest from the one that waits.
May import: the standard library.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Sequence
from typing import Any


class Waking:
    """A wait for connections that `wake` ends."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def wake(self) -> None:
        """End the wait, or the next one."""
        with contextlib.suppress(OSError):  # full: it is awake already; closed: nobody waits
            self._writer.send(b"x")

    def wait(self, connections: Sequence[Any], timeout: float) -> tuple[bool, bool]:
        """Wait until a connection can be read, `wake` is called, or `timeout` seconds have passed.

        :param connections: connections of redis-py.
        :return: whether a connection can be read, and whether it was woken.
        """
        sockets = [connection._sock for connection in connections]
        # What has been received already will not make a socket readable again.
        if any(
            sock is None or _buffered(connection, sock)
            for connection, sock in zip(connections, sockets, strict=True)
        ):
            return True, self._drained()
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        for sock in sockets:
            poll.register(sock, select.POLLIN)
        own = self._reader.fileno()
        # Rounded up: what becomes due must not be looked for half a millisecond early, in a loop.
        ready = [fd for fd, _ in poll.poll(max(0, int(timeout * 1000 + 0.999)))]
        return any(fd != own for fd in ready), own in ready and self._drained()

    def _drained(self) -> bool:
        try:
            return bool(self._reader.recv(4096))
        except OSError:
            return False

    def close(self) -> None:
        """Let go of the sockets."""
        self._reader.close()
        self._writer.close()


def _buffered(connection: Any, sock: Any) -> bool:
    pending = getattr(sock, "pending", None)  # of TLS
    try:
        return bool(pending and pending()) or bool(connection.can_read(0))
    except Exception:
        # It is broken: who reads from it is told, in our own errors, and mends it.
        return True
