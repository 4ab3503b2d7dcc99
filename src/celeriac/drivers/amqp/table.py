"""AMQP's tables and properties as bytes: pika's own know no floats, and take half of a task's time.

Owns: Properties, Received, encode_table, decode_table.  May import: pika.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from typing import Any

from pika.spec import BasicProperties

_LONG_STRING = struct.Struct(">cI").pack
_SMALL = struct.Struct(">ci").pack
_LARGE = struct.Struct(">cq").pack
_DOUBLE = struct.Struct(">cd").pack
_LENGTH = struct.Struct(">I").pack
_FLAGS = struct.Struct(">H").pack


@functools.lru_cache(512)
def _name(key: str) -> bytes:
    return _short(key)


@functools.lru_cache(2048)
def _constant(key: str, value: Any) -> bytes:
    """Return a header whose value comes again and again: a text, None, a bool, never 1 beside True."""
    return _name(key) + _value(value)


_RECURRING = frozenset({"lang", "task", "origin"})
"""Headers of text that a program repeats; ids and arguments would only fill the cache."""
_NONE = type(None)


def _short(text: str) -> bytes:
    data = text.encode()
    if len(data) > 255:
        raise ValueError(f"longer than AMQP's 255 bytes: {text!r:.60}")
    return bytes((len(data),)) + data


def _value(value: Any) -> bytes:
    if value is None:
        return b"V"
    if isinstance(value, str):
        data = value.encode()
        return _LONG_STRING(b"S", len(data)) + data
    if isinstance(value, bool):
        return b"t\x01" if value else b"t\x00"
    if isinstance(value, int):
        if -(1 << 31) <= value < 1 << 31:
            return _SMALL(b"I", value)
        if -(1 << 63) <= value < 1 << 63:
            return _LARGE(b"l", value)
        return _value(str(value))
    if isinstance(value, float):
        return _DOUBLE(b"d", value)
    if isinstance(value, (list, tuple)):
        items = b"".join(map(_value, value))
        return _LONG_STRING(b"A", len(items)) + items
    if isinstance(value, Mapping):
        return b"F" + encode_table(value)
    if isinstance(value, (bytes, bytearray)):
        return _LONG_STRING(b"x", len(value)) + bytes(value)
    return _value(str(value))


def encode_table(table: Mapping[str, Any]) -> bytes:
    """Return a table of headers as AMQP writes it.

    :raises ValueError: a name is longer than 255 bytes.
    """
    pieces: list[bytes] = [b""]
    for key, value in table.items():
        kind = type(value)
        if kind is str:
            if key in _RECURRING:
                pieces.append(_constant(key, value))
            else:
                data = value.encode()
                pieces += (_name(key), _LONG_STRING(b"S", len(data)), data)
        elif kind is _NONE or kind is bool:
            pieces.append(_constant(key, value))
        elif not value and kind is dict:
            pieces += (_name(key), b"F\0\0\0\0")
        elif kind is list and value == _UNLIMITED:
            pieces.append(_constant(key, (None, None)))
        else:
            pieces += (_name(key), _value(value))
    items = b"".join(pieces)
    return _LENGTH(len(items)) + items


_INTEGERS = {
    ord("b"): struct.Struct(">b"),
    ord("B"): struct.Struct(">B"),
    ord("U"): struct.Struct(">h"),
    ord("s"): struct.Struct(">h"),
    ord("u"): struct.Struct(">H"),
    ord("I"): struct.Struct(">i"),
    ord("i"): struct.Struct(">I"),
    ord("l"): struct.Struct(">q"),
    ord("L"): struct.Struct(">q"),
    ord("T"): struct.Struct(">Q"),
    ord("f"): struct.Struct(">f"),
    ord("d"): struct.Struct(">d"),
}
"""Numbers by their letter, as RabbitMQ writes them; T is a time in unix seconds."""
_SIZE = struct.Struct(">I").unpack_from
_BITS = struct.Struct(">H").unpack_from
_LONG = struct.Struct(">i").unpack_from
_EMPTY, _NOTHING_TWICE = b"F\0\0\0\0", b"A\0\0\0\x02VV"
_names: dict[bytes, str] = {}
"""The names of headers that were seen: a few, which come with every message."""


class _Unreadable(Exception):
    """A value of a kind that nobody knows: nothing behind it can be read."""


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _read(data: bytes, at: int) -> tuple[Any, int]:
    kind = data[at]
    at += 1
    if kind == 0x53:  # S
        end = at + 4 + _SIZE(data, at)[0]
        return _text(data[at + 4 : end]), end
    if kind == 0x56:  # V
        return None, at
    number = _INTEGERS.get(kind)
    if number is not None:
        return number.unpack_from(data, at)[0], at + number.size
    if kind == 0x74:  # t
        return data[at] != 0, at + 1
    if kind == 0x46:  # F
        return decode_table(data, at)
    if kind == 0x41:  # A
        end = at + 4 + _SIZE(data, at)[0]
        at += 4
        items = []
        while at < end:
            value, at = _read(data, at)
            items.append(value)
        return items, end
    if kind == 0x78:  # x
        end = at + 4 + _SIZE(data, at)[0]
        return data[at + 4 : end], end
    if kind == 0x44:  # D: a decimal
        return _LONG(data, at + 1)[0] / 10 ** data[at], at + 5
    raise _Unreadable


def decode_table(data: bytes, at: int) -> tuple[dict[str, Any], int]:
    """Return the table at `at`, and where it ends."""
    table: dict[str, Any] = {}
    end = at + 4 + _SIZE(data, at)[0]
    at += 4
    while at < end:
        start = at + 1
        at = start + data[at]
        raw = data[start:at]
        name = _names.get(raw)
        if name is None:
            name = raw.decode("utf-8", "replace")
            if len(_names) < 4096:
                _names[raw] = name
        kind = data[at]
        if kind == 0x56:
            table[name] = None
            at += 1
        elif kind == 0x53:
            start = at + 5
            at = start + _SIZE(data, at + 1)[0]
            try:
                table[name] = data[start:at].decode()
            except UnicodeDecodeError:
                table[name] = data[start:at]
        # The other kinds that a task always has, without a call for each.
        elif kind == 0x49:
            table[name] = _LONG(data, at + 1)[0]
            at += 5
        elif kind == 0x74:
            table[name] = data[at + 1] != 0
            at += 2
        elif kind == 0x46 and data[at : at + 5] == _EMPTY:
            table[name] = {}
            at += 5
        elif kind == 0x41 and data[at : at + 7] == _NOTHING_TWICE:
            table[name] = [None, None]
            at += 7
        else:
            table[name], at = _read(data, at)
    return table, end


class Received:
    """The properties of a message as it came; what it does not have is None.

    :param data: the frame that says them, from its flags on.
    """

    content_type: str | None = None
    content_encoding: str | None = None
    headers: dict[str, Any] | None = None
    delivery_mode: int | None = None
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    message_id: str | None = None

    def __init__(self, data: bytes, at: int = 0) -> None:
        try:
            self._read(data, at)
        except (_Unreadable, IndexError, struct.error):
            # Whoever sent it must not stop this worker: what was read up to there is used.
            if self.headers is None:
                self.headers = {}

    def _read(self, data: bytes, at: int) -> None:
        (flags,) = _BITS(data, at)
        at += 2
        known = self.__dict__
        for flag, name in _HEAD:
            if flags & flag:
                start = at + 1
                at = start + data[at]
                known[name] = data[start:at].decode("utf-8", "replace")
        if flags & 0x2000:
            self.headers, at = decode_table(data, at)
        if flags & 0x1000:
            self.delivery_mode = data[at]
            at += 1
        if flags & 0x0800:
            self.priority = data[at]
            at += 1
        for flag, name in _TAIL:
            if flags & flag:
                start = at + 1
                at = start + data[at]
                known[name] = data[start:at].decode("utf-8", "replace")


_UNLIMITED = [None, None]
_HEAD = ((0x8000, "content_type"), (0x4000, "content_encoding"))
_TAIL = (
    (0x0400, "correlation_id"),
    (0x0200, "reply_to"),
    (0x0100, "expiration"),
    (0x0080, "message_id"),
)


class Properties(BasicProperties):  # type: ignore[misc]  # pika has no types
    """Properties that are bytes already when the connection's thread gets them."""

    def __init__(self, packed: bytes) -> None:
        # Without the parent's: its fields are what `packed` says.
        self.packed = packed

    def encode(self) -> list[bytes]:
        """Return the bytes for pika's frame."""
        return [self.packed]

    @classmethod
    def of(cls, headers: Mapping[str, Any], known: Mapping[str, Any]) -> Properties:
        """Return the properties of a message.

        :param known: Celery's names: content_type, content_encoding, delivery_mode, priority,
            correlation_id, reply_to, expiration, message_id.
        :raises ValueError: one is longer than 255 bytes.
        """
        flags, head, middle = _fixed(
            known.get("content_type"),
            known.get("content_encoding"),
            known.get("delivery_mode") or 2,
            known.get("priority"),
        )
        pieces = [b"", head, encode_table(headers), middle]
        for flag, name in _TAIL:
            if value := known.get(name):
                flags |= flag
                pieces.append(_short(value))
        pieces[0] = _FLAGS(flags)
        return cls(b"".join(pieces))


@functools.lru_cache(512)
def _fixed(
    kind: str | None, encoding: str | None, mode: int, priority: int | None
) -> tuple[int, bytes, bytes]:
    """Return the flags of headers and of these, and the bytes before and behind the headers."""
    flags, head, middle = 0x3000, b"", bytes((mode,))
    if kind:
        flags |= 0x8000
        head += _short(kind)
    if encoding:
        flags |= 0x4000
        head += _short(encoding)
    if priority is not None:
        flags |= 0x0800
        middle += bytes((priority,))
    return flags, head, middle
