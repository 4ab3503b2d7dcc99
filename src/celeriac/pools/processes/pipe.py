"""Frames between the pool's parent and one child: a length, then msgpack.

Owns: Frames, Work, Ended, the kinds of frames.  May import: kernel, msgspec.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import msgspec

from celeriac.kernel.message import Delivery, Envelope, Part, Record, Settlement, Verdict

_LENGTH = struct.Struct(">I")


class Work(msgspec.Struct, array_like=True):
    """A delivery on its way to a child."""

    seq: int
    id: str
    queue: str
    body: bytes
    priority: int
    not_before: float
    expires_at: float
    attempt: int
    handed_out: int

    @classmethod
    def of(cls, seq: int, delivery: Delivery) -> Work:
        """Return what a child needs of a delivery."""
        e = delivery.envelope
        return cls(
            seq,
            e.id,
            e.queue,
            e.body,
            e.priority,
            e.not_before,
            e.expires_at,
            e.attempt,
            delivery.handed_out,
        )

    def delivery(self) -> Delivery:
        """Return the delivery as the child sees it: without the driver's receipt."""
        envelope = Envelope(
            self.id,
            self.queue,
            self.body,
            self.priority,
            self.not_before,
            self.expires_at,
            self.attempt,
        )
        return Delivery(envelope, None, 0.0, self.handed_out)


class Ended(msgspec.Struct, array_like=True):
    """A settlement on its way back; the parent puts its own delivery in."""

    seq: int
    verdict: Verdict
    record: Record | None
    runtime: float
    again: Envelope | None
    part: Part | None
    publish: tuple[Envelope, ...]
    reason: str

    @classmethod
    def of(cls, seq: int, s: Settlement) -> Ended:
        """Return what the parent needs of a settlement."""
        return cls(seq, s.verdict, s.record, s.runtime, s.again, s.part, s.publish, s.reason)

    def settlement(self, delivery: Delivery) -> Settlement:
        """Return the settlement of the parent's delivery."""
        return Settlement(
            delivery,
            self.verdict,
            self.again,
            self.record,
            self.part,
            self.publish,
            self.reason,
            self.runtime,
        )


class Report(msgspec.Struct, array_like=True):
    """What a child says: any of these may be empty."""

    ended: list[Ended] = []
    noted: list[Record] = []
    back: list[int] = []
    """Sequence numbers that were never started."""
    broken: list[tuple[int, str]] = []
    """What raised where nothing may be raised, or whose outcome cannot be sent."""
    ready: bool = False
    retiring: bool = False
    """It takes no more: it has run enough tasks, or has grown too large."""
    failure: str = ""
    """Why it could not begin."""
    told: list[bytes] = []
    """Events."""
    answers: list[tuple[int, bytes]] = []
    """Tokens of questions, and JSON."""


_encoder = msgspec.msgpack.Encoder()
_work = msgspec.msgpack.Decoder(list[Work])
_report = msgspec.msgpack.Decoder(Report)


def encode(value: Any) -> bytes:
    """Return a frame."""
    body = _encoder.encode(value)
    return _LENGTH.pack(len(body)) + body


def decode_work(body: bytes | memoryview) -> list[Work]:
    """Return the deliveries of a frame."""
    return _work.decode(body)


def decode_report(body: bytes | memoryview) -> Report:
    """Return what a child said."""
    return _report.decode(body)


class Frames:
    """Bytes as they come, cut into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes; return the frames that are whole now."""
        self._buffer += data
        while len(self._buffer) >= 4:
            end = 4 + _LENGTH.unpack_from(self._buffer)[0]
            if len(self._buffer) < end:
                return
            frame = bytes(self._buffer[4:end])
            del self._buffer[:end]
            yield frame
