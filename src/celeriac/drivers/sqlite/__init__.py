"""The SQLite driver: broker, results and bus in one file, for one machine.

Owns: SQLiteFamily.  May import: kernel, ports.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from celeriac.drivers.sqlite.broker import SQLiteBroker
from celeriac.drivers.sqlite.bus import SQLiteBus
from celeriac.drivers.sqlite.db import Database
from celeriac.drivers.sqlite.orders import SQLiteOrders
from celeriac.drivers.sqlite.results import SQLiteResults
from celeriac.drivers.sqlite.schedules import SQLiteSchedules
from celeriac.kernel.errors import ImproperlyConfigured

OPTIONS = frozenset({"synchronous", "busy", "reserve", "network_file_system"})
"""Of `broker_transport_options`."""


class SQLiteFamily:
    """Every role of one file.

    :param url: `sqlite:///relative.db` or `sqlite:////absolute.db`.
    :param options: `synchronous` (FULL or NORMAL), `busy` (seconds), `reserve` (bytes),
        `network_file_system` (use a file on one all the same).
    :raises ImproperlyConfigured: the URL names no file.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        _, _, rest = url.partition("://")
        path = unquote(rest.partition("?")[0])
        if not path.startswith("/") or path == "/":
            raise ImproperlyConfigured(
                f"{url!r} names no file: sqlite:///tasks.db, or sqlite:////var/lib/tasks.db"
            )
        file = Path(path[1:]).absolute()
        chosen = {key: value for key, value in options.items() if key in OPTIONS}
        self._db = Database(file, **chosen)
        name = f"sqlite:{file}"
        self._broker = SQLiteBroker(self._db, name)
        self._results = SQLiteResults(self._db, name, self._broker.caps)
        self._bus = SQLiteBus(self._db)
        self._orders = SQLiteOrders(self._db)
        self._schedules = SQLiteSchedules(self._db, self._broker.ring)

    def broker(self) -> SQLiteBroker:
        """Return the broker."""
        return self._broker

    def results(self) -> SQLiteResults:
        """Return the result store."""
        return self._results

    def bus(self) -> SQLiteBus:
        """Return the bus."""
        return self._bus

    def orders(self) -> SQLiteOrders:
        """Return the standing orders."""
        return self._orders

    def schedules(self) -> SQLiteSchedules:
        """Return the store of schedules."""
        return self._schedules

    def after_fork(self) -> None:
        """Forget every connection without closing it."""
        self._db.after_fork()

    def close(self) -> None:
        """Close the file."""
        self._db.close()
