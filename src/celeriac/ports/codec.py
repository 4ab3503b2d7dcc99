"""Codecs: values to bytes and back.

Owns: Codec, Compression, Acceptance.  May import: kernel.
"""

from __future__ import annotations

from typing import Any, Protocol


class Codec(Protocol):
    """One serializer.  What goes in comes out, or it raises."""

    name: str
    """As in `task_serializer`: json, msgpack, yaml, pickle."""
    content_type: str
    """As in a message's header, e.g. application/json."""
    content_encoding: str
    """utf-8 or binary."""
    trusted_only: bool
    """Reading foreign bytes may run code: refused unless `accept_content` names it."""

    def dumps(self, value: object) -> bytes:
        """Encode.

        :raises EncodeError: the value, or something in it, cannot be carried unchanged.
        """
        ...

    def loads(self, data: bytes) -> Any:
        """Decode.

        :raises DecodeError: these bytes are not of this codec, or too deep, or too large.
        """
        ...


class Compression(Protocol):
    """One way to make bodies smaller."""

    name: str
    content_type: str
    """As in Celery's header `compression`, e.g. application/x-gzip."""

    def compress(self, data: bytes) -> bytes:
        """Return `data`, smaller."""
        ...

    def decompress(self, data: bytes, *, limit: int) -> bytes:
        """Return what was compressed.

        :param limit: bytes that the result may have.
        :raises DecodeError: broken data, or more than `limit` bytes.
        """
        ...


class Acceptance(Protocol):
    """What `accept_content` lets in."""

    def check(self, content_type: str) -> None:
        """Let a content type pass.

        :raises ContentDisallowed: it is not accepted; the message says which setting to change.
        """
        ...
