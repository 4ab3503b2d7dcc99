"""The current app and the current task: the only ambient state there is.

Owns: current_app, current_task, get_current_task.  May import: kernel.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac
    from celeriac.client.context import Context

_default: Celeriac | None = None
_app: ContextVar[Celeriac | None] = ContextVar("celeriac_app", default=None)
_running: ContextVar[tuple[Any, Context] | None] = ContextVar("celeriac_task", default=None)
_join_allowed: ContextVar[bool] = ContextVar("celeriac_join_allowed", default=False)


def set_default_app(app: Celeriac | None) -> None:
    """Make `app` the one that every thread falls back to."""
    global _default
    _default = app


def push_app(app: Celeriac) -> Token[Celeriac | None]:
    """Make `app` the current one in this context until the token is reset."""
    return _app.set(app)


def get_current_app() -> Celeriac:
    """Return the current app; where none was made, a default one is.

    Never None, so that `shared_task`s can be called in a program that only sends.
    """
    found = _app.get() or _default
    if found is None:
        found = _make_default()
    return found


_factory: Any = None


def _make_default() -> Celeriac:
    app: Celeriac = _factory("default", set_as_current=True)
    return app


def set_app_factory(factory: Any) -> None:
    """Say how a default app is made (the app module does so when it is imported)."""
    global _factory
    _factory = factory


def get_current_task() -> Any:
    """Return the task that runs in this context, or None."""
    running = _running.get()
    return running[0] if running is not None else None


def get_current_request() -> Context | None:
    """Return the request of the task that runs in this context, or None."""
    running = _running.get()
    return running[1] if running is not None else None


def push_task(task: Any, request: Context) -> Token[Any]:
    """Make `task` the running one in this context until `pop_task` is given the token."""
    return _running.set((task, request))


def pop_task(token: Token[Any]) -> None:
    """Undo `push_task`."""
    _running.reset(token)


class _Proxy:
    """Reads as the object that a function returns at that moment."""

    __slots__ = ("_get",)

    def __init__(self, get: Any) -> None:
        object.__setattr__(self, "_get", get)

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_get")(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(object.__getattribute__(self, "_get")(), name, value)

    def __bool__(self) -> bool:
        return object.__getattribute__(self, "_get")() is not None

    def __eq__(self, other: object) -> bool:
        return bool(object.__getattribute__(self, "_get")() == other)

    def __hash__(self) -> int:
        return hash(object.__getattribute__(self, "_get")())

    def __repr__(self) -> str:
        return repr(object.__getattribute__(self, "_get")())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return object.__getattribute__(self, "_get")()(*args, **kwargs)


current_app: Any = _Proxy(get_current_app)
current_task: Any = _Proxy(get_current_task)
