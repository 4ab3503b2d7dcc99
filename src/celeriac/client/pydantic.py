"""Tasks with `pydantic=True`: arguments become models by their annotations, models become data.

Owns: with_models.  May import: kernel.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from celeriac.kernel.errors import ImproperlyConfigured


def with_models(
    fun: Callable[..., Any],
    *,
    bound: bool,
    strict: bool | None = None,
    context: Mapping[str, Any] | None = None,
    dump_kwargs: Mapping[str, Any] | None = None,
) -> tuple[Callable[..., Any], Callable[[Any, Any], tuple[Any, Any]]]:
    """Return `fun` wrapped so that it is given and gives models, and what dumps them for sending.

    :param bound: the first parameter is the task.
    :param strict: validate strictly; `context` is passed to the validation.
    :param dump_kwargs: passed to `model_dump` of what the task returns.
    :raises ImproperlyConfigured: pydantic is not installed.
    """
    try:
        pydantic = importlib.import_module("pydantic")
    except ImportError as error:
        raise ImproperlyConfigured(
            "pydantic=True needs pydantic: pip install 'celeriac[pydantic]'"
        ) from error
    model: Any = pydantic.BaseModel
    signature = inspect.signature(fun)
    wanted = _models_of(fun, model)
    dumping = {"mode": "json", **(dump_kwargs or {})}

    def dump(value: Any) -> Any:
        return value.model_dump(**dumping) if isinstance(value, model) else value

    def load(args: Any, kwargs: Any) -> inspect.BoundArguments:
        found = signature.bind(*args, **kwargs)
        for name, cls in wanted.items():
            value = found.arguments.get(name)
            if name in found.arguments and value is not None:
                found.arguments[name] = cls.model_validate(value, strict=strict, context=context)
        return found

    @functools.wraps(fun)
    async def run_async(*args: Any, **kwargs: Any) -> Any:
        found = load(args, kwargs)
        return dump(await fun(*found.args, **found.kwargs))

    @functools.wraps(fun)
    def run(*args: Any, **kwargs: Any) -> Any:
        found = load(args, kwargs)
        return dump(fun(*found.args, **found.kwargs))

    def dump_arguments(args: Any, kwargs: Any) -> tuple[Any, Any]:
        return [dump(value) for value in args], {key: dump(value) for key, value in kwargs.items()}

    return run_async if inspect.iscoroutinefunction(fun) else run, dump_arguments


def _models_of(fun: Callable[..., Any], model: type) -> dict[str, Any]:
    """Return the parameters that are models, or a model or None."""
    found = {}
    for name, hint in typing.get_type_hints(fun).items():
        if name == "return":
            continue
        choices = [kind for kind in typing.get_args(hint) or (hint,) if kind is not type(None)]
        if len(choices) == 1 and isinstance(choices[0], type) and issubclass(choices[0], model):
            found[name] = choices[0]
    return found
