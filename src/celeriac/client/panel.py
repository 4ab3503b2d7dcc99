"""The commands that a worker understands, by name, and what makes one of a function.

Owns: Panel, Command, control_command, inspect_command, PANEL.
Thread rule: register while the program is imported; read from any thread.
May import: kernel.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from celeriac.kernel.errors import CeleryError, ImproperlyConfigured

F = TypeVar("F", bound=Callable[..., Any])


class CommandRefused(CeleryError):
    """A command is unknown, or its arguments do not fit."""


@dataclass(frozen=True)
class Command:
    """One command.

    :param run: called with the worker's state and the arguments by keyword.
    :param kind: "inspect" asks, "control" changes.
    :param args: (name, type) of what `celeriac inspect|control` takes after the command.
    :param variadic: the argument that takes the rest of the command line, as a list.
    :param default_timeout: seconds to wait for replies.
    :param slow: it is carried out in a thread of its own, so that others do not wait for it.
    """

    name: str
    run: Callable[..., Any]
    kind: str
    help: str = ""
    args: tuple[tuple[str, Any], ...] = ()
    signature: str = ""
    variadic: str | None = None
    default_timeout: float = 1.0
    visible: bool = True
    slow: bool = False

    def __post_init__(self) -> None:
        parameters = list(inspect.signature(self.run).parameters.values())
        if not parameters or parameters[0].kind not in (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.VAR_POSITIONAL,
        ):
            raise ImproperlyConfigured(
                f"the command {self.name!r} must take the worker's state as its first argument"
            )

    def __call__(self, state: Any, arguments: Mapping[str, Any]) -> Any:
        """Carry it out.

        :raises CommandRefused: the arguments are not those of the command.
        """
        try:
            inspect.signature(self.run).bind(state, **arguments)
        except TypeError as error:
            raise CommandRefused(f"{self.name}: {error}") from None
        return self.run(state, **arguments)

    def read(self, words: Sequence[str]) -> dict[str, Any]:
        """Return the arguments that the words of a command line mean.

        :raises CommandRefused: there are too many, or one is not of its type.
        """
        found: dict[str, Any] = {}
        rest = list(words)
        for name, kind in self.args:
            if not rest:
                break
            word = rest.pop(0)
            try:
                found[name] = _flag(word) if kind is bool else kind(word)
            except (TypeError, ValueError):
                raise CommandRefused(
                    f"{self.name}: {name} cannot be {word!r}; it takes {self.signature}"
                ) from None
        if self.variadic and rest:
            found[self.variadic] = rest
        elif rest:
            raise CommandRefused(
                f"{self.name} takes {self.signature or 'no arguments'}, not {' '.join(words)}"
            )
        return found


def _flag(word: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True}
    words |= {"0": False, "false": False, "no": False, "off": False}
    try:
        return words[word.lower()]
    except KeyError:
        raise ValueError(word) from None


class Panel:
    """Commands by name; Celery's `Panel`, where programs register their own."""

    data: dict[str, Callable[..., Any]] = {}
    meta: dict[str, Command] = {}
    """With the other names (`alias`) that a command has."""

    @classmethod
    def register(cls, *args: Any, **options: Any) -> Any:
        """Make a command of a function; a decorator, with options or without."""
        if args:
            return cls._register(**options)(args[0])
        return cls._register(**options)

    @classmethod
    def _register(
        cls,
        name: str | None = None,
        alias: str | None = None,
        type: str = "control",  # noqa: A002 - Celery's name
        help: str | None = None,  # noqa: A002
        args: Sequence[tuple[str, Any]] | None = None,
        signature: str | None = None,
        variadic: str | None = None,
        default_timeout: float = 1.0,
        visible: bool = True,
        slow: bool = False,
    ) -> Callable[[F], F]:
        def register(run: F) -> F:
            called = name or run.__name__
            words = help or (run.__doc__ or "").strip().partition("\n")[0]
            command = Command(
                called,
                run,
                type,
                words,
                tuple(args or ()),
                signature or "",
                variadic,
                default_timeout,
                visible,
                slow,
            )
            for known in filter(None, (called, alias)):
                cls.data[known], cls.meta[known] = run, command
            return run

        return register


PANEL = Panel.meta
"""Every command that is known in this process."""


@overload
def control_command(run: F, /) -> F: ...
@overload
def control_command(**options: Any) -> Callable[[F], F]: ...
def control_command(*args: Any, **options: Any) -> Any:
    """Make a command of a function: one that changes something.

    :param options: Celery's: name, alias, args, signature, variadic, default_timeout, help,
        visible; and `slow`, for one that takes its time.
    """
    return Panel.register(*args, type="control", **options)


@overload
def inspect_command(run: F, /) -> F: ...
@overload
def inspect_command(**options: Any) -> Callable[[F], F]: ...
def inspect_command(*args: Any, **options: Any) -> Any:
    """Make a command of a function: one that asks; options as those of `control_command`."""
    return Panel.register(*args, type="inspect", **options)
