"""AMQP's tables and properties as bytes: pika's own know no floats, and take half of a publish.

Owns: Properties, encode_table.  May import: pika.
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
        # A whole number as one: pika, and so a worker of ours, reads doubles as integers.
        return _value(int(value)) if value.is_integer() else _DOUBLE(b"d", value)
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
    items = b"".join([_name(key) + _value(value) for key, value in table.items()])
    return _LENGTH(len(items)) + items


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
        flags = 1 << 13 | 1 << 12
        head, middle, tail = b"", b"", b""
        if value := known.get("content_type"):
            flags |= 1 << 15
            head += _name(value)
        if value := known.get("content_encoding"):
            flags |= 1 << 14
            head += _name(value)
        middle = bytes((known.get("delivery_mode") or 2,))
        if (value := known.get("priority")) is not None:
            flags |= 1 << 11
            middle += bytes((value,))
        for flag, name in (
            (10, "correlation_id"),
            (9, "reply_to"),
            (8, "expiration"),
            (7, "message_id"),
        ):
            if value := known.get(name):
                flags |= 1 << flag
                tail += _short(value)
        return cls(_FLAGS(flags) + head + encode_table(headers) + middle + tail)
