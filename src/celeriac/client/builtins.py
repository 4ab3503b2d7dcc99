"""The tasks that every app has: what workflows are made of beside the program's own.

Owns: BUILT_IN.  May import: kernel.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from celeriac.kernel.plan import GATHER
from celeriac.kernel.signature import maybe_signature


def accumulate(*args: Any, **kwargs: Any) -> Any:
    """Return the arguments, or with `index` that one of them."""
    index = kwargs.get("index")
    return args[index] if index is not None else args


def xmap(self: Any, task: Any, it: Iterable[Any]) -> Any:
    """Call a task's function with each of `it`."""
    return xstarmap(self, task, ((item,) for item in it))


def xstarmap(self: Any, task: Any, it: Iterable[Any]) -> Any:
    """Call a task's function with each of `it` as its arguments.

    Of an `async def` task it is a coroutine, run where such a task's own would be.
    """
    function = maybe_signature(task, app=self.app).type
    if inspect.iscoroutinefunction(function.run):
        return _one_by_one(function, it)
    return [function(*item) for item in it]


async def _one_by_one(function: Any, it: Iterable[Any]) -> list[Any]:
    return [await function(*item) for item in it]


BUILT_IN: dict[str, tuple[Callable[..., Any], bool]] = {
    GATHER: (accumulate, False),
    "celery.map": (xmap, True),
    "celery.starmap": (xstarmap, True),
}
"""Name: function, and whether it is given the task as `self`."""
