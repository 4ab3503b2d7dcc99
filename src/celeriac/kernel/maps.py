"""One task for many arguments: map and starmap as one task, chunks as a group of them.

Owns: xmap, xstarmap, chunks.  May import: kernel.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from celeriac.kernel.canvas import group
from celeriac.kernel.parts import Parts
from celeriac.kernel.signature import Signature, maybe_signature, reprcall
from celeriac.kernel.workflow import Workflow

SHOWN = 100
"""Characters of a map's arguments that its repr shows."""


class _map(Signature):
    """A task run for each of many arguments, one after the other, in one process."""

    _task = ""

    def __init__(self, task: Any, it: Iterable[Any], app: Any = None, **options: Any) -> None:
        items = it if isinstance(it, (list, tuple)) else Parts(it)
        super().__init__(
            self._task,
            (),
            {"task": maybe_signature(_as_signature(task), app=app), "it": items},
            options,
            immutable=True,
            app=app if app is not None else getattr(task, "_app", None),
        )

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> Signature:
        """Return the signature of a mapping."""
        made = cls.__new__(cls)
        Signature.__init__(made, d, app=app)
        made["kwargs"] = {**d["kwargs"], "task": maybe_signature(d["kwargs"]["task"], app=app)}
        return made

    def _inner_app(self) -> Any:
        return getattr(self["kwargs"]["task"], "_app", None)

    def _merge(
        self, args: Any = None, kwargs: Any = None, options: Any = None, *, force: bool = False
    ) -> Any:
        args, kwargs, options = super()._merge(args, kwargs, options, force=force)
        if isinstance(kwargs.get("it"), Parts):
            kwargs = {**kwargs, "it": kwargs["it"].all()}
        return args, kwargs, options

    def __repr__(self) -> str:
        shown = repr(list(self["kwargs"]["it"]))
        if len(shown) > SHOWN:
            shown = shown[: SHOWN - 3] + "..."
        return f"[{self['kwargs']['task']['task']}({self._star}x) for x in {shown}]"

    _star = ""


def _as_signature(task: Any) -> Any:
    if isinstance(task, Mapping):
        return task
    return Signature(task)


@Signature.register_type()
class xmap(_map):
    """`[task(x) for x in it]`, as one task."""

    _task = "celery.map"


@Signature.register_type()
class xstarmap(_map):
    """`[task(*x) for x in it]`, as one task."""

    _task = "celery.starmap"
    _star = "*"


@Signature.register_type()
class chunks(Workflow):
    """A group of starmaps, each over `n` of the arguments in `it`.

    >>> add.chunks(zip(range(100), range(100)), 10)  # doctest: +SKIP
    """

    _kind = "chunks"

    def __init__(
        self, task: Any, it: Iterable[Any], n: int, app: Any = None, **options: Any
    ) -> None:
        items = it if isinstance(it, (list, tuple)) else Parts(it)
        held = {"task": maybe_signature(_as_signature(task), app=app), "it": items, "n": n}
        app = app if app is not None else getattr(task, "_app", None)
        self._make(held, app, {**options, "immutable": True})

    def _restore(self, app: Any) -> None:
        self["kwargs"]["task"] = maybe_signature(self["kwargs"]["task"], app=app)

    def _inner_app(self) -> Any:
        return getattr(self["kwargs"]["task"], "_app", None)

    def group(self) -> group:
        """Return the group of starmaps that it is sent as."""
        held = self["kwargs"]
        items = held["it"].stream() if isinstance(held["it"], Parts) else iter(held["it"])
        made = group(
            (
                xstarmap(held["task"], part, app=self._app)
                for part in iter(lambda: list(itertools.islice(items, held["n"])), [])
            ),
            app=self._app,
        )
        made["options"].update(self["options"])
        return made

    @classmethod
    def apply_chunks(cls, task: Any, it: Iterable[Any], n: int, app: Any = None) -> Any:
        """Send the chunks of `it`."""
        return cls(task, it, n, app=app)()

    def __repr__(self) -> str:
        return reprcall(self["task"], (), self["kwargs"])
