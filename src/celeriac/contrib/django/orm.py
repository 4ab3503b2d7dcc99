"""What every store in the ORM does: which database, and which of its errors mean "try again".

Owns: Store, slices, open_here, let_go, aware, stored.  Thread rule: any thread; each has connections of its own.
May import: celeriac.kernel, django.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, TypeVar

from django import db
from django.apps import apps
from django.conf import settings
from django.core.exceptions import AppRegistryNotReady
from django.db import router, transaction
from django.utils import timezone

from celeriac.kernel.errors import BrokerRejected, BrokerUnavailable, ImproperlyConfigured

T = TypeVar("T")

SLICE = 200
"""Rows in one statement."""
OF_DJANGO = "celeriac.django.run"
"""The one task that runs all those of Django's own tasks API."""
_POLLING = frozenset({"celeriac-beat", "celeriac-watcher"})
"""Threads that look many times a second, and close what they have when they rest."""
_OWN = _POLLING | {"celeriac-settler", "celeriac-keeper"}
"""Threads that only celeriac uses.

In others, connections that are open are in use, a cursor that is read from or a lock of the session,
and would take these with them; so they are left alone, and what is opened there is closed again.
"""


class Store:
    """Tables of one model's database.

    :param model: its database, by the routers, is that of all.
    """

    def __init__(self, model: str) -> None:
        self._label = f"celeriac.{model}"

    @property
    def using(self) -> str:
        """The alias of the database that is written to."""
        return str(router.db_for_write(self.model))

    @property
    def model(self) -> Any:
        """The model.

        :raises ImproperlyConfigured: it is not installed.
        """
        try:
            return apps.get_model(self._label)
        except AppRegistryNotReady:
            import django

            django.setup()
            return self.model
        except LookupError:
            raise ImproperlyConfigured(
                "the tables are not there: add 'celeriac.contrib.django' to INSTALLED_APPS and run"
                " `manage.py migrate`"
            ) from None

    @contextlib.contextmanager
    def access(self, *, atomic: bool = False) -> Iterator[str]:
        """Use the database; its errors become celeriac's.

        :param atomic: make it one transaction.
        :raises BrokerUnavailable: try again.
        :raises BrokerRejected: do not.
        """
        using = self.using
        connection = db.connections[using]
        alone, was_open = not connection.in_atomic_block, connection.connection is not None
        if alone and was_open and _own_thread():
            _tidy(connection)
        try:
            with transaction.atomic(using) if atomic else contextlib.nullcontext():
                yield using
        except (db.OperationalError, db.InterfaceError) as error:
            if alone:
                connection.close()
            _explain(error, using)
        except (db.DataError, db.IntegrityError, db.NotSupportedError, ValueError) as error:
            # ValueError: a text that the database's encoding has no form for.
            raise BrokerRejected(f"the database {using!r} refuses it: {error}") from error
        except db.ProgrammingError as error:
            _explain(error, using)
        finally:
            if alone and (_own_thread() or not was_open):
                _let_go(connection)

    def rest(self) -> None:
        """Close this thread's connection, if it is one of those that poll: it has nothing to do."""
        connection = db.connections[self.using]
        if _own_thread() and not connection.in_atomic_block:
            connection.close()


def aware(moment: dt.datetime) -> dt.datetime:
    """Return a stored moment with its zone: without USE_TZ, TIME_ZONE is meant."""
    if timezone.is_aware(moment):
        return moment
    return moment.replace(tzinfo=timezone.get_default_timezone())


def stored(moment: dt.datetime) -> dt.datetime:
    """Return a moment as a field takes it: without a zone where USE_TZ is off."""
    if settings.USE_TZ:
        return aware(moment)
    return aware(moment).astimezone(timezone.get_default_timezone()).replace(tzinfo=None)


def slices(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Give as many at a time as one statement takes."""
    for start in range(0, len(items), SLICE):
        yield items[start : start + SLICE]


def open_here() -> list[str]:
    """Return the aliases of the databases that this thread is connected to."""
    found = db.connections.all(initialized_only=True)
    return [connection.alias for connection in found if connection.connection is not None]


def let_go(were_open: Sequence[str]) -> None:
    """Give back what was opened since, e.g. by a cache that is a table."""
    for alias in open_here():
        if alias not in were_open and not db.connections[alias].in_atomic_block:
            _let_go(db.connections[alias])


def _own_thread() -> bool:
    return threading.current_thread().name in _OWN


def _tidy(connection: Any) -> None:
    # CONN_MAX_AGE = 0 means "as long as a request": what polls has no such end.
    if connection.settings_dict["CONN_MAX_AGE"] != 0 or connection.errors_occurred:
        connection.close_if_unusable_or_obsolete()


def _let_go(connection: Any) -> None:
    """Give what was opened for one look back where it is not to be kept: to its pool, above all."""
    pooled = bool(connection.settings_dict["OPTIONS"].get("pool"))
    kept = threading.current_thread().name in _POLLING
    if pooled or (connection.settings_dict["CONN_MAX_AGE"] == 0 and not kept):
        connection.close()


def _explain(error: Exception, using: str) -> NoReturn:
    text = str(error)
    if "no such table" in text or "does not exist" in text or "doesn't exist" in text:
        raise BrokerRejected(
            f"the database {using!r} lacks celeriac's tables: run `manage.py migrate` ({text})"
        ) from error
    raise BrokerUnavailable(f"the database {using!r} is away: {text}") from error
