"""What may be shown: passwords out of URLs and values, and representations of bounded size.

Owns: redact_url, is_secret, censored, bounded_repr.  May import: the standard library only.
"""

from __future__ import annotations

import re
from collections import OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Iterable, Mapping
from typing import Any

# The password ends at the last @ before the next URL: those that people paste hold @ and /
# unescaped.  Better a host too few than a password too many.
_USERINFO = re.compile(r"(://[^/?#@:\s]*):(?:(?!://)\S)*@")
_QUERY = re.compile(r"([?&]([\w.-]+)=)(?:(?!;[\w.+-]+://)[^&\s'\"])*")
_SECRET = re.compile(
    r"PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIAL|CERTIFICATE|CONNECTION_STRING"
    r"|(?:^|_)(?:PASS|PWD)$|(?<!ROUTING_)(?:^|(?<=_)|(?<=API))KEY(?:_ID)?$",
    re.IGNORECASE,
)
_DEEPEST = 10


def redact_url(url: str) -> str:
    """Return a URL, several joined by `;`, or a text with URLs, with passwords shown as `**`."""
    return _QUERY.sub(_hide_value, _USERINFO.sub(r"\1:**@", url))


def _hide_value(found: re.Match[str]) -> str:
    return f"{found[1]}**" if is_secret(found[2]) else found[0]


def is_secret(name: str) -> bool:
    """Return whether a setting's value must not be shown."""
    return bool(_SECRET.search(name))


def censored(name: str, value: Any, *, depth: int = _DEEPEST) -> Any:
    """Return a setting's value without its secrets, also those deep inside."""
    if value is None:
        return None
    if is_secret(name) or depth < 0:
        return "**"
    if isinstance(value, str):
        return redact_url(value)
    if isinstance(value, Mapping):
        return {k: censored(str(k), inner, depth=depth - 1) for k, inner in value.items()}
    if type(value) in (list, tuple):
        return type(value)(censored("", inner, depth=depth - 1) for inner in value)
    return value


class _Full(Exception):
    """The text has reached its limit."""


class _Text:
    """Collects pieces up to a limit."""

    __slots__ = ("left", "pieces")

    def __init__(self, limit: int) -> None:
        self.left = limit
        self.pieces: list[str] = []

    def add(self, piece: str) -> None:
        if len(piece) > self.left:
            self.pieces.append(piece[: self.left])
            raise _Full
        self.pieces.append(piece)
        self.left -= len(piece)


_LISTS: dict[Any, tuple[str, str]] = {
    list.__repr__: ("[", "]"),
    tuple.__repr__: ("(", ")"),
    set.__repr__: ("{", "}"),
    frozenset.__repr__: ("frozenset({", "})"),
    deque.__repr__: ("deque([", "])"),
    type({}.keys()).__repr__: ("dict_keys([", "])"),
    type({}.values()).__repr__: ("dict_values([", "])"),
}
_DICTS: dict[Any, tuple[str, str]] = {
    dict.__repr__: ("{", "}"),
    OrderedDict.__repr__: ("OrderedDict({", "})"),
    defaultdict.__repr__: ("defaultdict({", "})"),
}
_NAMEDTUPLE = namedtuple("_NAMEDTUPLE", "x").__repr__.__code__
"""The code that all named tuples share: one with a `__repr__` of its own is left alone."""


_SMALL = 1000
"""Characters that the repr of what `_is_small` finds has at the most."""
_SCALARS = frozenset({int, float, bool, type(None)})


def _is_small(value: Any) -> bool:
    """Tell whether `repr` does as well: 1 us instead of 10 for the arguments that most tasks have."""
    kind = type(value)
    if kind is not tuple and kind is not list and kind is not dict:
        return _is_small_one(value)
    if len(value) > 8:
        return False
    for one in value:
        if not _is_small_one(one):
            return False
    if kind is dict:
        for one in value.values():
            if not _is_small_one(one):
                return False
    return True


def _is_small_one(value: Any) -> bool:
    kind = type(value)
    if kind is str:
        return len(value) <= 30 and value.isascii() and value.isprintable()
    return kind in _SCALARS and (kind is not int or -(2**63) < value < 2**63)


def bounded_repr(value: object, limit: int = 1024, depth: int = 8) -> str:
    """Return a representation of at most `limit` characters; never raises.

    Like `repr` where that is short.  Containers, texts, exceptions and dataclasses are read only
    as far as they are shown; what has a `__repr__` of its own is asked for it.
    """
    if limit >= _SMALL and _is_small(value):
        return repr(value)
    text = _Text(limit)
    try:
        _write(value, text, depth)
    except _Full:
        return "".join(text.pieces)[: max(0, limit - 3)] + "..."[:limit]
    except Exception as error:  # a container of the user's, or one that changes meanwhile
        failed = f"<{type(value).__name__}: its repr raised {type(error).__name__}>"
        return failed[:limit]
    return "".join(text.pieces)


def _write(value: Any, text: _Text, depth: int) -> None:
    own: Any = type(value).__repr__
    if own is str.__repr__ or own is bytes.__repr__:
        text.add(own(value[: text.left + 1]))
    elif own in _LISTS:
        _write_items(value, _LISTS[own], text, depth)
    elif own in _DICTS:
        _write_fields(value.items(), _DICTS[own], text, depth)
    elif own is bytearray.__repr__:
        text.add(f"bytearray({bytes(value[: text.left + 1])!r})")
    elif own is int.__repr__ and value.bit_length() > 8192:
        text.add(f"<int of {value.bit_length()} bits>")  # Python refuses above 4300 digits
    elif own is BaseException.__repr__:
        text.add(type(value).__name__)
        _write_items(value.args, ("(", ")"), text, depth, comma=False)
    elif getattr(own, "__code__", None) is _NAMEDTUPLE:
        names = [(f, getattr(value, f)) for f in value._fields]
        _write_named(type(value).__name__, names, text, depth)
    elif _is_plain_dataclass(type(value), own):
        fields = type(value).__dataclass_fields__.values()
        names = [(f.name, getattr(value, f.name)) for f in fields if f.repr]
        _write_named(type(value).__qualname__, names, text, depth)
    else:
        text.add(_asked(value))


def _is_plain_dataclass(kind: Any, own: Any) -> bool:
    if not hasattr(kind, "__dataclass_fields__"):
        return False
    code = getattr(getattr(own, "__wrapped__", own), "__code__", None)
    return code is not None and code.co_filename == "<string>"  # generated, not the user's


def _asked(value: object) -> str:
    try:
        found = repr(value)
    except Exception as error:  # a user's __repr__ may raise anything
        return f"<{type(value).__name__}: its repr raised {type(error).__name__}>"
    # Half a surrogate pair cannot be written to a log.
    return found if found.isascii() else found.encode("utf-8", "backslashreplace").decode()


def _write_items(
    items: Iterable[Any], ends: tuple[str, str], text: _Text, depth: int, *, comma: bool = True
) -> None:
    begin, end = ends
    count = len(items)  # type: ignore[arg-type]  # a Sized one, all of them
    if not count and isinstance(items, (set, frozenset, deque)):
        text.add(repr(items))
        return
    text.add(begin)
    if count and depth <= 0:
        text.add("...")
    else:
        for number, item in enumerate(items):
            if number:
                text.add(", ")
            _write(item, text, depth - 1)
        if comma and count == 1 and begin == "(":
            text.add(",")
    text.add(end)


def _write_fields(
    items: Iterable[tuple[Any, Any]], ends: tuple[str, str], text: _Text, depth: int
) -> None:
    text.add(ends[0])
    for number, (key, inner) in enumerate(items):
        if depth <= 0:
            text.add("...")
            break
        if number:
            text.add(", ")
        _write(key, text, depth - 1)
        text.add(": ")
        _write(inner, text, depth - 1)
    text.add(ends[1])


def _write_named(name: str, items: list[tuple[str, Any]], text: _Text, depth: int) -> None:
    text.add(f"{name}(")
    for number, (field, inner) in enumerate(items):
        if depth <= 0:
            text.add("...")
            break
        text.add(f"{', ' if number else ''}{field}=")
        _write(inner, text, depth - 1)
    text.add(")")
