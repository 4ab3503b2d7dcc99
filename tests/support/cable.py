"""A TCP proxy whose cable can be pulled: it stays connected and passes nothing on.

Owns: Proxy.  May import: the standard library.
"""

from __future__ import annotations

import contextlib
import socket
import threading


class Proxy:
    """Passes bytes between its own port and another one of this machine."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._flows = threading.Event()
        self._flows.set()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                one, _ = self._listener.accept()
                other = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [one, other]
                # A pulled cable is pulled for these connections; later ones have a new one.
                flows = self._flows
                for pair in ((one, other), (other, one)):
                    threading.Thread(target=self._pass, args=(*pair, flows), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, flows: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                flows.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def pull(self) -> None:
        """Pass nothing more on over the connections that are open now."""
        self._flows.clear()
        self._flows = threading.Event()
        self._flows.set()

    def close(self) -> None:
        """End everything."""
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.close()
