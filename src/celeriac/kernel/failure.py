"""Exceptions to plain data and back, as in Celery's JSON results, whatever the exceptions do.

Owns: describe, rebuild, traceback_text.  May import: kernel, the standard library.
"""

from __future__ import annotations

import functools
import math
import reprlib
import sys
import traceback as _traceback
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from celeriac.kernel import errors

MAX_ARG = 64 * 1024
"""Bytes that one argument of an exception may have as data."""
MAX_ARGS = 64
"""Arguments that are kept."""
_MAX_ITEMS = 10_000
_MAX_CHAIN = 64
_MAX_FRAMES = 200

_BILLIARD = {"SoftTimeLimitExceeded", "TimeLimitExceeded", "WorkerLostError", "Terminated"}
_KOMBU = {"OperationalError", "EncodeError", "DecodeError", "ContentDisallowed"}
_CELERY_MODULES = {"celery.exceptions", "billiard.exceptions", "kombu.exceptions"}

_repr = reprlib.Repr()
_repr.maxlevel = 4
_repr.maxlist = _repr.maxtuple = _repr.maxdict = _repr.maxset = _repr.maxfrozenset = 50
_repr.maxstring = _repr.maxother = 4096

# The slots of C: an exception may have made a property of `args` that raises.
_args_of = BaseException.__dict__["args"].__get__
_set_args = BaseException.__dict__["args"].__set__


def describe(exc: BaseException) -> dict[str, Any]:
    """Return an exception as Celery stores it: name, module and arguments, all plain and bounded.

    What is no plain data among the arguments is kept as its repr.  The exceptions of celeriac
    are written with the module where Celery has them.
    """
    kind = type(exc)
    module = str(kind.__module__)
    if module == errors.__name__:
        module = _celery_module(kind.__name__)
    args: tuple[Any, ...] = _args_of(exc)
    return {
        "exc_type": _clean(kind.__qualname__),
        "exc_message": [_plain(arg) for arg in args[:MAX_ARGS]],
        "exc_module": _clean(module),
    }


def _celery_module(name: str) -> str:
    if name in _BILLIARD:
        return "billiard.exceptions"
    return "kombu.exceptions" if name in _KOMBU else "celery.exceptions"


def _plain(value: Any) -> Any:
    if type(value) is str:
        return _cut(_clean(value), MAX_ARG)
    if _fits(value):
        try:
            # Refuses lone surrogates and integers that a MessagePack result could not hold.
            data = msgspec.msgpack.encode(value)
            if len(data) <= MAX_ARG and b"__type__" not in data:
                return value
        except (ValueError, OverflowError, RecursionError):
            pass
    return _cut(_clean(_safe_repr(value)), MAX_ARG)


def _fits(value: Any) -> bool:
    """Tell whether `value` is plain and small, in bounded time even where it holds itself."""
    waiting, seen = [(value, 0)], 0
    while waiting:
        item: Any
        item, depth = waiting.pop()
        seen += 1
        if seen > _MAX_ITEMS or depth > 50:
            return False
        kind = type(item)
        if kind is dict:
            if any(type(key) is not str for key in item):
                return False
            item = list(item.values())
            kind = list
        if kind is list or kind is tuple:
            if len(item) + seen > _MAX_ITEMS:
                return False
            waiting += [(inner, depth + 1) for inner in item]
        elif kind is str:
            if len(item) > MAX_ARG:
                return False
        elif kind is float:
            if not math.isfinite(item):
                return False
        elif item is not None and kind is not bool and kind is not int:
            return False
    return True


def _safe_repr(value: Any) -> str:
    try:
        return str(_repr.repr(value))
    except KeyboardInterrupt:
        raise
    except BaseException:  # a repr may do anything, sys.exit() too
        return f"<a {type(value).__name__} whose repr failed>"


def _clean(text: str) -> str:
    """Return `text` without lone surrogates, which no serializer but JSON carries."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _cut(text: str, limit: int) -> str:
    """Return `text` in at most about `limit` bytes: its head and its tail."""
    if len(text) * 4 <= limit or len(text.encode()) <= limit:
        return text
    # In characters while the limit is in bytes: ASCII keeps all it may, others less than they could.
    room = max(0, limit - 64) // (1 if text.isascii() else 4)
    head = room // 4
    tail = room - head
    return f"{text[:head]}\n… {len(text) - room} characters cut …\n{text[len(text) - tail :]}"


def rebuild(data: Mapping[str, Any], importable: Mapping[str, Any] | None = None) -> BaseException:
    """Return the exception that `describe`, or Celery, wrote.

    Its class is looked up, never imported, and must be an exception.  Where there is none, or it
    does not take the arguments, an exception class of that name is made up.

    :param importable: the modules to look in, by name; those that are loaded where None.
    """
    name, module = str(data.get("exc_type") or "Exception"), data.get("exc_module")
    message = data.get("exc_message", ())
    args = tuple(message) if isinstance(message, (list, tuple)) else (message,)
    kind = _find(name, module, sys.modules if importable is None else importable)
    if kind is not None:
        try:
            exc = kind(*args)
            if isinstance(exc, BaseException):
                # A constructor that words its message would have worded it twice.
                _set_args(exc, args)
                return exc
        except KeyboardInterrupt:
            raise
        except BaseException:  # a constructor may do anything, sys.exit() too
            pass
    return _made(name, module if isinstance(module, str) else errors.__name__)(*args)


def _find(name: str, module: object, importable: Mapping[str, Any]) -> type[BaseException] | None:
    if not isinstance(module, str):
        return None
    if module in _CELERY_MODULES:
        own = vars(errors).get(name)
        if _is_exception(own) and own.__module__ == errors.__name__:
            return own
    found: Any = importable.get(module)
    if found is None and module == "builtins":
        found = sys.modules["builtins"]
    for word in name.split("."):
        try:
            # Not getattr: a module's __getattr__ may import, a lazy module load itself.
            found = object.__getattribute__(found, "__dict__").get(word)
        except AttributeError:
            return None
    # CVE-2021-23727: data must not choose what is called, `os.system` for one.
    return found if _is_exception(found) else None


def _is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


@functools.lru_cache(maxsize=1024)
def _made(name: str, module: str) -> type[Exception]:
    short = "".join(char for char in name.rpartition(".")[2] if char.isprintable())[:200]
    made = type(short or "Exception", (Exception,), {"__module__": module})
    made.__qualname__ = name[:500]
    return made


def traceback_text(exc: BaseException, limit: int = MAX_ARG) -> str:
    """Return the formatted traceback of an exception and its causes, in about `limit` bytes."""
    try:
        linked = list(_linked(exc))
        if len(linked) > _MAX_CHAIN or any(map(_is_vast, linked)):
            text = _alone(exc)
        else:
            formatted = _traceback.TracebackException(
                type(exc), exc, exc.__traceback__, limit=-_MAX_FRAMES, compact=True
            )
            text = "".join(formatted.format())
    except KeyboardInterrupt:
        raise
    except BaseException:  # str() of an exception may do anything
        text = f"{type(exc).__qualname__}: (its traceback cannot be formatted)\n"
    return _cut(_clean(text), limit)


def _linked(exc: BaseException) -> Iterator[BaseException]:
    """Yield an exception, its causes, contexts and parts, up to one more than are formatted."""
    waiting: list[BaseException | None] = [exc]
    seen: set[int] = set()
    while waiting and len(seen) <= _MAX_CHAIN:
        item = waiting.pop()
        if item is None or id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        waiting += (item.__cause__, item.__context__)
        if isinstance(item, BaseExceptionGroup):
            waiting += item.exceptions[: _MAX_CHAIN + 1]


def _is_vast(exc: BaseException) -> bool:
    """Tell whether str() of the arguments could take for ever: lists that hold each other."""
    waiting, seen = [*_args_of(exc)], 0
    while waiting:
        item = waiting.pop()
        seen += 1
        if type(item) is dict:
            item = item.values()
        elif type(item) not in (list, tuple, set, frozenset):
            continue
        if seen + len(waiting) + len(item) > 20 * _MAX_ITEMS:
            return True
        waiting += item
    return False


def _alone(exc: BaseException) -> str:
    """Return the traceback without causes, bounded: the standard library would format it all."""
    message = ", ".join(map(_safe_repr, _args_of(exc)[:MAX_ARGS])) if _is_vast(exc) else str(exc)
    frames = _traceback.StackSummary.extract(
        _traceback.walk_tb(exc.__traceback__), limit=-_MAX_FRAMES
    )
    return (
        "(too large: causes are left out)\n"
        "Traceback (most recent call last):\n"
        f"{''.join(frames.format())}{type(exc).__qualname__}: {message}\n"
    )
