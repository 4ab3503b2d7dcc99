"""What every store in the ORM does: which database, and which of its errors mean "try again".

Owns: Store, OrmBus.  Thread rule: any thread; each has connections of its own.
May import: celeriac.kernel, django.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NoReturn

from django import db
from django.apps import apps
from django.core.exceptions import AppRegistryNotReady
from django.db import router, transaction

from celeriac.kernel.errors import BrokerRejected, BrokerUnavailable, ImproperlyConfigured


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
        alone = not connection.in_atomic_block
        if alone:
            # This may be a thread that lives as long as the worker, between no requests.
            connection.close_if_unusable_or_obsolete()
        try:
            with transaction.atomic(using) if atomic else contextlib.nullcontext():
                yield using
        except (db.OperationalError, db.InterfaceError) as error:
            if alone:
                connection.close()
            _explain(error, using)
        except (db.DataError, db.IntegrityError, db.NotSupportedError) as error:
            raise BrokerRejected(f"the database {using!r} refuses it: {error}") from error
        except db.ProgrammingError as error:
            _explain(error, using)

    def close(self) -> None:
        """Close this thread's connection, unless it is in a transaction of somebody's."""
        connection = db.connections[self.using]
        if not connection.in_atomic_block:
            connection.close()


def _explain(error: Exception, using: str) -> NoReturn:
    text = str(error)
    if "no such table" in text or "does not exist" in text or "doesn't exist" in text:
        raise BrokerRejected(
            f"the database {using!r} lacks celeriac's tables: run `manage.py migrate` ({text})"
        ) from error
    raise BrokerUnavailable(f"the database {using!r} is away: {text}") from error
