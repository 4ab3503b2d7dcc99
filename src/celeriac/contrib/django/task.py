"""Tasks of a Django project: they can be sent when the transaction is committed.

Owns: DjangoTask.  May import: celeriac.client, celeriac.ports, django.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction

from celeriac.client.task import Task
from celeriac.ports.registry import find_codec


class DjangoTask(Task[..., Any]):
    """A task that can wait for the end of the transaction it is sent from."""

    abstract = True

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """Send the task when the transaction is committed, and never if it is rolled back.

        Outside of a transaction it is sent at once.  There is no id yet, so nothing is returned.

        :raises TypeError: the arguments do not fit the function.
        :raises EncodeError: an argument cannot be carried.
        """
        self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(
        self,
        args: Any = None,
        kwargs: Any = None,
        *,
        using: str | None = None,
        robust: bool = False,
        **options: Any,
    ) -> None:
        """As `delay_on_commit`, with the options of `apply_async`.

        :param using: the database whose transaction is meant; the default one where None.
        :param robust: log an error of the broker instead of raising it: what is committed stays.
        :raises TypeError: the arguments do not fit the function.
        :raises EncodeError: an argument cannot be carried.
        """
        if self.typing and self._check is not None:
            self._check(*(args or ()), **(kwargs or {}))
        if not self.app.conf.task_always_eager:
            # After the commit it would be too late: what the transaction wrote would stay.
            serializer = options.get("serializer") or self.serializer
            codec = find_codec(serializer or self.app.conf.task_serializer)
            codec.dumps([list(args or ()), dict(kwargs or {})])

        def send() -> None:  # by a function: Django's log names it
            self.apply_async(args, kwargs, **options)

        transaction.on_commit(send, using=using, robust=robust)
