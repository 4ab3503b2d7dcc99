"""Kombu's tagged types: values that JSON has no word for, as `{"__type__": ..., "__value__": ...}`.

Owns: register_type, tagged, restore, restore_all.  May import: kernel.
"""

from __future__ import annotations

import base64
import datetime as _dt
import decimal
import re
import sys
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from celeriac.kernel.errors import EncodeError
from celeriac.kernel.plain import MAX_DEPTH

T = TypeVar("T")

_KEYS = {"__type__", "__value__"}
# Two halves of one character, side by side, would come back as that character.
_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")

_encoders: dict[type, tuple[str | None, Callable[[Any], Any]]] = {}
_decoders: dict[str, Callable[[Any], Any]] = {
    "bytes": lambda text: text.encode("utf-8"),
    "base64": lambda text: base64.b64decode(text, validate=True),
}


def register_type(
    kind: type[T],
    marker: str | None,
    encoder: Callable[[T], Any],
    decoder: Callable[[Any], T] = lambda data: data,
) -> None:
    """Let the json and msgpack codecs carry one more type, subclasses included.

    :param marker: its name on the wire; None writes what `encoder` returns, without a tag.
    :param encoder: from a value to plain data.
    :param decoder: from that data to the value.
    """
    _encoders[kind] = (marker, encoder)
    if marker is not None:
        _decoders[marker] = decoder


def _time_text(value: _dt.time) -> str:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise ValueError("its time zone has no offset without a date")
    return value.isoformat()


# datetime stands before date, whose subclass it is.
register_type(_dt.datetime, "datetime", _dt.datetime.isoformat, _dt.datetime.fromisoformat)
register_type(
    _dt.date,
    "date",
    _dt.date.isoformat,
    lambda text: _dt.datetime.fromisoformat(text).date(),
)
register_type(_dt.time, "time", _time_text, _dt.time.fromisoformat)
register_type(decimal.Decimal, "decimal", str, decimal.Decimal)
register_type(uuid.UUID, "uuid", lambda value: {"hex": value.hex}, lambda data: uuid.UUID(**data))


def tagged(value: Any, *, binary: bool) -> Any:
    """Return `value` made of JSON's types only, what is not being tagged.

    :param binary: MessagePack's limits instead of JSON's: bytes as they are, 64-bit integers and
        no lone surrogates.
    :raises EncodeError: with the path and the type of what cannot be carried.
    """
    try:
        return _tagged(value, "", binary, 0, False)
    except RecursionError:
        raise EncodeError(f"nested deeper than {MAX_DEPTH}, or in itself") from None


def _tagged(value: Any, path: str, binary: bool, depth: int, foreign: bool) -> Any:
    # `foreign`: given by an object's `__json__()`, which may write a tag of its own.
    if value is None or value is True or value is False or isinstance(value, float):
        return value
    if isinstance(value, str):
        return _text(value, path, binary)
    if isinstance(value, int):
        if binary and not -(2**63) <= value < 2**64:
            raise _refused(path, "an integer beyond 64 bits", "cannot be carried by msgpack")
        return value
    if depth >= MAX_DEPTH:
        raise EncodeError(f"nested deeper than {MAX_DEPTH}, or in itself: {_short(path)}")
    if isinstance(value, dict):
        if not foreign and value.keys() == _KEYS:
            raise _refused(path, "a dict with the keys __type__ and __value__", "would be a tag")
        result = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise _refused(path, f"the {type(key).__name__} key {key!r:.50}", "must be a str")
            inner = f"{path}.{key}" if key.isidentifier() else f"{path}[{key!r:.50}]"
            result[_text(key, inner, binary)] = _tagged(item, inner, binary, depth + 1, False)
        return result
    if isinstance(value, (list, tuple)):
        return [
            _tagged(item, f"{path}[{index}]", binary, depth + 1, False)
            for index, item in enumerate(value)
        ]
    if binary and type(value) is bytes:
        return value
    reduced, foreign = _reduced(value, path)
    return _tagged(reduced, path, binary, depth + 1, foreign)


def _text(value: str, path: str, binary: bool) -> str:
    # str.__str__, for a `str, Enum` says `Kind.A` of itself.
    text = value if type(value) is str else str.__str__(value)
    if not text.isascii():
        if binary and any("\ud800" <= char <= "\udfff" for char in text):
            raise _refused(path, "a text with lone surrogates", "cannot be carried by msgpack")
        if _SURROGATE_PAIR.search(text):
            raise _refused(path, "a text with surrogate pairs", "would not come back the same")
    return text


def _reduced(value: Any, path: str) -> tuple[Any, bool]:
    """Return what stands for `value`, and whether it may be a tag: in kombu's order."""
    try:
        reducer = getattr(value, "__json__", None)
        if reducer is not None:
            return reducer(), True
        # Django's lazy strings.  Where there is one, its module is loaded.
        promise = getattr(sys.modules.get("django.utils.functional"), "Promise", None)
        if promise is not None and isinstance(value, promise):
            return str(value), False
        for kind, (marker, encoder) in _encoders.items():
            if isinstance(value, kind):
                data = encoder(value)
                return (data if marker is None else _tag(marker, data)), True
    except EncodeError as error:
        raise EncodeError(f"{_short(path)}: {error}") from None
    except Exception as error:  # users' code
        what = f"a {type(value).__name__}"
        raise _refused(path, what, f"cannot be encoded: {error!r:.200}") from error
    if isinstance(value, bytes):
        try:
            return _tag("bytes", value.decode("utf-8")), True
        except UnicodeDecodeError:
            return _tag("base64", base64.b64encode(value).decode("ascii")), True
    hint = (
        "give it a __json__() method, register it with celeriac.codecs.register_type, "
        "or pass something simpler"
    )
    raise _refused(path, f"a {type(value).__name__}", f"cannot be carried: {hint}")


def _tag(marker: str, data: Any) -> dict[str, Any]:
    return {"__type__": marker, "__value__": data}


def _refused(path: str, what: str, why: str) -> EncodeError:
    return EncodeError(f"{_short(path)}: {what} {why}")


def _short(path: str) -> str:
    path = path.removeprefix(".") or "the value"
    return path if len(path) <= 200 else f"{path[:100]}…{path[-100:]}"


def restore(data: dict[str, Any]) -> Any:
    """Return what a tag stands for, or the dict itself where it is none.

    :raises ValueError: a tag that nobody registered.
    """
    if len(data) != 2 or data.keys() != _KEYS:
        return data
    decoder = _decoders.get(data["__type__"])
    if decoder is None:
        raise ValueError(f"nothing is registered for the type {data['__type__']!r:.100}")
    return decoder(data["__value__"])


def restore_all(data: Any) -> Any:
    """Return `data` with every tag in it replaced by what it stands for."""
    if type(data) is dict:
        return restore({key: restore_all(item) for key, item in data.items()})
    if type(data) is list:
        return [restore_all(item) for item in data]
    return data
