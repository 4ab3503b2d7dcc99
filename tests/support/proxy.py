"""A TCP proxy that cuts connections in the middle of a command, or swallows everything.

Owns: CutProxy.
Thread rule: everything may be called from any thread.
May import: the standard library.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import threading
from types import TracebackType


class CutProxy:
    """A door to a server on 127.0.0.1 that can be made a bad one.

    :param port: of the server.
    :param cut_after: (least, most) bytes, both ways together, after which a connection is cut;
        None: never.  It is chosen anew for each connection.
    """

    def __init__(
        self, port: int, *, cut_after: tuple[int, int] | None = None, seed: int = 1
    ) -> None:
        self._behind, self.cut_after = port, cut_after
        self._random = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._black = False
        self._closed = False
        self.cuts = 0
        """Connections that were cut."""
        threading.Thread(target=self._accept, daemon=True).start()

    def blackhole(self, on: bool = True) -> None:
        """Take bytes and connections, and pass nothing on; the bytes of this time are lost."""
        self._black = on

    def cut_all(self) -> None:
        """Cut every connection now."""
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = None
        with self._lock:
            self._open.add(client)
        try:
            server = socket.create_connection(("127.0.0.1", self._behind), timeout=5)
            server.settimeout(None)
            with self._lock:
                self._open.add(server)
            self._forward(client, server)
        except OSError:
            pass
        finally:
            for one in (client, server):
                if one is not None:
                    with self._lock:
                        self._open.discard(one)
                    one.close()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        left = self._random.randint(*self.cut_after) if self.cut_after else None
        while True:
            readable, _, _ = select.select([client, server], [], [])
            for source in readable:
                data = source.recv(65536)
                if not data:
                    return
                if self._black:
                    continue
                target = server if source is client else client
                if left is not None:
                    target.sendall(data[:left])
                    left -= len(data)
                    if left <= 0:
                        self.cuts += 1
                        return
                else:
                    target.sendall(data)

    def close(self) -> None:
        """Stop."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_all()

    def __enter__(self) -> CutProxy:
        """Give it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self.close()
