"""Finding the app that `-A` names, and saying what was tried when it cannot be found.

Owns: find_app, find_here, NoApp, BrokenModule, nearest.  May import: client.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import click

from celeriac.client.app import Celeriac

ATTRIBUTES = ("app", "celery")
"""What an app is called in its module, in order."""

SUBMODULES = ("celery", "app")
"""Where in a package an app may live."""

HERE = ("celery_app", "tasks")
"""Modules of the current folder that are looked into where nothing names an app."""


class NoApp(click.ClickException):
    """There is no app to work with; the message lists what was tried."""


class BrokenModule(click.ClickException):
    """A module of the user's raised while it was imported: its traceback is shown.

    :param what: what was being done.
    """

    def __init__(self, what: str, error: BaseException) -> None:
        super().__init__(f"{what} failed with {type(error).__name__}: {error}")
        self.error = error

    def show(self, file: Any = None) -> None:
        """Print the user's part of the traceback, then the message."""
        stack = self.error.__traceback__
        while stack is not None and _is_machinery(stack.tb_frame.f_code.co_filename):
            stack = stack.tb_next
        lines = traceback.format_exception(self.error.with_traceback(stack))
        click.echo("".join(lines).rstrip(), file=file, err=file is None)
        super().show(file)


def _is_machinery(filename: str) -> bool:
    """Tell whether a frame is celeriac's own or the import system's."""
    own = os.path.dirname(os.path.dirname(__file__)) + os.sep
    return filename.startswith((own, "<frozen")) or filename == importlib.__file__


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?", or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


@contextlib.contextmanager
def users_code(what: str) -> Iterator[None]:
    """Turn what a module of the user's raises into an error that shows its traceback.

    :raises BrokenModule: the code inside raised.
    """
    try:
        yield
    except (click.ClickException, click.Abort, click.exceptions.Exit):
        raise
    except Exception as error:
        raise BrokenModule(what, error) from error


def _cwd_on_path() -> None:
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
        importlib.invalidate_caches()


class _Search:
    """One search: each step notes why it found nothing."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tried: list[tuple[str, str]] = []

    def no(self, place: str, why: str) -> None:
        self.tried.append((place, why))

    def error(self) -> NoApp:
        width = max(len(place) for place, _ in self.tried)
        lines = [f"  {place:<{width}}  {why}" for place, why in self.tried]
        return NoApp(
            "\n".join(
                [
                    f"no app is found by -A {self.name}.  Tried:",
                    *lines,
                    f"The current folder, {os.getcwd()}, is on sys.path.",
                    "An app is made by `app = Celeriac(...)`; name it as module:attribute.",
                ]
            )
        )

    def module(self, name: str) -> ModuleType | None:
        """Import a module; None where it does not exist.

        :raises BrokenModule: it exists, and cannot be imported.
        """
        try:
            with users_code(f"importing {name}"):
                return importlib.import_module(name)
        except BrokenModule as broken:
            error = broken.error
            missing = isinstance(error, ModuleNotFoundError) and error.name is not None
            # Only a part of the name itself is "not there"; any other is missing inside a module.
            if missing and (name + ".").startswith(f"{error.name}."):  # type: ignore[attr-defined]
                self.no(name, f"no module named {error.name!r}")  # type: ignore[attr-defined]
                return None
            if isinstance(error, (ValueError, TypeError)) and not _importable(name):
                self.no(name, "no module can have that name")
                return None
            raise

    def attribute(self, owner: Any, place: str, name: str) -> Celeriac | None:
        try:
            value = getattr(owner, name)
        except AttributeError:
            self.no(f"{place}:{name}", "no such attribute")
            return None
        return self.app(value, f"{place}:{name}")

    def app(self, value: Any, place: str) -> Celeriac | None:
        """Return `value` where it is an app, else note what it is."""
        if isinstance(value, Celeriac):
            return value
        kind = type(value)
        if kind.__module__.partition(".")[0] == "celery":
            why = "an app of Celery: import it by `from celeriac import Celery`"
        elif isinstance(value, ModuleType):
            why = "a module"
        else:
            why = f"a {kind.__name__}, not an app"
        self.no(place, why)
        return None

    def inside(self, module: ModuleType) -> Celeriac | None:
        """Look through a module: `app`, `celery`, its submodules, the one app that it has."""
        place = module.__name__
        for name in ATTRIBUTES:
            found = self.attribute(module, place, name)
            if found is not None:
                return found
        if hasattr(module, "__path__"):
            for name in SUBMODULES:
                child = self.module(f"{place}.{name}")
                found = self.inside(child) if child is not None else None
                if found is not None:
                    return found
        return self.only(module)

    def only(self, module: ModuleType) -> Celeriac | None:
        place = module.__name__
        apps = {name: value for name, value in vars(module).items() if isinstance(value, Celeriac)}
        if len({id(app) for app in apps.values()}) == 1:
            return next(iter(apps.values()))
        if apps:
            self.no(place, f"several apps: {', '.join(apps)}; name one, as {place}:{min(apps)}")
        else:
            self.no(place, "no other name in it is an app")
        return None


def _importable(name: str) -> bool:
    return bool(name) and all(word.isidentifier() for word in name.split("."))


def find_app(name: str) -> Celeriac:
    """Return the app that `-A name` means; the current folder is on `sys.path` from then on.

    `proj:app` names an attribute; `proj` and `proj.mod` are looked through for `app`, `celery`,
    the submodules `celery` and `app`, and the one app that the module has.

    :raises NoApp: there is none; the message lists every place and why it was not there.
    :raises BrokenModule: a module raised while it was imported.
    """
    _cwd_on_path()
    search = _Search(name)
    path, colon, attribute = name.partition(":")
    module = search.module(path)
    found: Celeriac | None = None
    if module is not None:
        found = _named(search, module, attribute) if colon else search.inside(module)
    elif not colon and "." in path:
        # The last word may be an attribute: proj.mod.app.
        parent, _, last = path.rpartition(".")
        owner = search.module(parent)
        if owner is not None:
            found = search.attribute(owner, parent, last)
    if found is None:
        raise search.error()
    return found


def _named(search: _Search, module: ModuleType, path: str) -> Celeriac | None:
    """Follow `path`, which may have dots, from a module."""
    *owners, last = path.split(".")
    owner: Any = module
    place = module.__name__
    for name in owners:
        if not hasattr(owner, name):
            search.no(f"{place}:{path}", f"no attribute {name!r}")
            return None
        owner = getattr(owner, name)
    value = getattr(owner, last, None)
    if isinstance(value, ModuleType):
        return search.inside(value)
    return search.attribute(owner, place, last)


def find_here() -> Celeriac | None:
    """Return the app of a `celery_app.py` or `tasks.py` in the current folder, or None.

    Only files of this folder count: an installed package called `tasks` is not meant.

    :raises BrokenModule: the file cannot be imported.
    """
    for name in HERE:
        if not os.path.isfile(f"{name}.py"):
            continue
        _cwd_on_path()
        search = _Search(name)
        module = search.module(name)
        found = search.inside(module) if module is not None else None
        if found is not None:
            return found
    return None
