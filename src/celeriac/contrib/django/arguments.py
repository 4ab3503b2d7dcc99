"""Model instances as arguments: refused, since they would be old by then; a reference is not.

Owns: Reference, reference, register.  May import: celeriac.codecs, django.
"""

from __future__ import annotations

from typing import Any, NoReturn

from django.apps import apps
from django.db.models import Model, QuerySet
from django.utils.functional import Promise, SimpleLazyObject

from celeriac.codecs.tags import register_type
from celeriac.kernel.errors import EncodeError

MARKER = "django.reference"
"""What a reference is called on the wire."""


class Reference(SimpleLazyObject):
    """A row by model, key and database; the instance, read when something of it is first used.

    So a row that is gone is an error of the task, which can catch it, and not of its message.
    """

    def __init__(self, label: str, pk: Any, using: str) -> None:
        def load() -> Any:
            return apps.get_model(label)._base_manager.using(using).get(pk=pk)

        super().__init__(load)
        self.__dict__["_reference"] = label, pk, using

    def __reduce__(self) -> Any:
        return Reference, self.__dict__["_reference"]  # pickle, too, carries no instance

    def __json__(self) -> dict[str, Any]:
        return {"__type__": MARKER, "__value__": [*self.__dict__["_reference"]]}


def reference(instance: Any) -> Any:
    """Return what can be passed to a task for a saved instance: there it is read anew.

    >>> send_invoice.delay(reference(invoice))  # doctest: +SKIP

    :raises ValueError: the instance was never saved.
    """
    if instance.pk is None or instance._state.adding:
        raise ValueError(f"{instance._meta.label} is not saved: there is nothing to refer to")
    return Reference(instance._meta.label, instance.pk, instance._state.db or "default")


def _refuse(instance: Any) -> NoReturn:
    label = instance._meta.label
    raise EncodeError(
        f"an instance of the model {label} cannot be an argument, it would be as old as its message:"
        f" pass its key ({instance.pk!r:.50}) and read it in the task, or pass"
        " celeriac.contrib.django.arguments.reference(instance)"
    )


def _refuse_query(query: Any) -> NoReturn:
    raise EncodeError(
        f"a QuerySet of {query.model._meta.label} cannot be an argument: pass a list of keys, as"
        " list(query.values_list('pk', flat=True))"
    )


def register() -> None:
    """Make the codecs know references, and refuse instances and queries with what to do instead."""
    register_type(Model, None, _refuse)
    register_type(Promise, None, str)  # gettext_lazy, in the language of who sends
    register_type(QuerySet, None, _refuse_query)
    register_type(Reference, MARKER, lambda found: [*found._reference], lambda v: Reference(*v))
