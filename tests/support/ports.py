"""Ports for the tests' servers.

Owns: free_port.
"""

from __future__ import annotations

import random
import socket

LOWEST, HIGHEST = 15_000, 30_000
"""Below the ports that the system gives to outgoing connections (from 32768 on): one of those may be
taken before the server that is to have it listens, or while it is down for a moment."""


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    # By chance, of the system's: test runs at the same time must not try the same ones in one order.
    dice = random.SystemRandom()
    for _ in range(100):
        port = dice.randint(LOWEST, HIGHEST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError(f"no free port from {LOWEST} to {HIGHEST}")
