"""What the pool and a child say to each other, and how it is cut into frames.

A frame is four bytes of length and one message in MessagePack: plain data, never a pickle, so
that nothing a task returns or raises can break the process that reads it.

Owns: the messages, Frames, frame_of, hidden.  May import: kernel.
"""

from __future__ import annotations

import socket
import weakref

import msgspec

from celeriac.kernel.message import Delivery, Envelope, Part, Record, Settlement, Verdict

CHUNK = 1 << 18
LONGEST = (1 << 32) - 1
"""Bytes of one frame at the most."""


class Job(msgspec.Struct, array_like=True, gc=False):
    """A delivery to run.  Its receipt stays with the pool."""

    number: int
    envelope: Envelope
    lease_until: float
    handed_out: int


class Give(msgspec.Struct, array_like=True, tag="give", gc=False):
    """To a child: run these, in this order."""

    jobs: list[Job]


class Leave(msgspec.Struct, array_like=True, tag="leave", gc=False):
    """To a child: end once nothing is left to do."""


class Ended(msgspec.Struct, array_like=True, gc=False):
    """A settlement, without the delivery."""

    number: int
    verdict: Verdict
    again: Envelope | None
    record: Record | None
    part: Part | None
    publish: tuple[Envelope, ...]
    reason: str
    runtime: float

    @classmethod
    def of(cls, number: int, settlement: Settlement) -> Ended:
        """Return what is to be told of a settlement."""
        return cls(
            number,
            settlement.verdict,
            settlement.again,
            settlement.record,
            settlement.part,
            settlement.publish,
            settlement.reason,
            settlement.runtime,
        )

    def settlement(self, delivery: Delivery) -> Settlement:
        """Return the settlement of the pool's own delivery."""
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


class Told(msgspec.Struct, array_like=True, tag="told", gc=False):
    """From a child: what ended and what was noted."""

    ended: list[Ended]
    spent: float
    """Seconds that it took from beginning to end, all of it included."""
    returned: list[int]
    """Numbers of what was not begun, since it is void."""
    broken: list[tuple[int, str]]
    """Numbers of what raised where nothing may be raised, each with the error."""
    noted: list[Record]


class Ready(msgspec.Struct, array_like=True, tag="ready", gc=False):
    """From a child: it can run tasks now."""


class Failed(msgspec.Struct, array_like=True, tag="failed", gc=False):
    """From a child: it could not be made ready, and ends."""

    error: str


class Retiring(msgspec.Struct, array_like=True, tag="retiring", gc=False):
    """From a child: it has run its share or grown too large, and ends."""


ToChild = Give | Leave
ToPool = Told | Ready | Failed | Retiring

to_child = msgspec.msgpack.Decoder(ToChild)
to_pool = msgspec.msgpack.Decoder(ToPool)
_encoder = msgspec.msgpack.Encoder()


def frame_of(message: ToChild | ToPool) -> bytearray:
    """Return a message as it travels.

    :raises ValueError: it is too long, or holds what MessagePack cannot carry.
    """
    frame = bytearray(4)
    try:
        _encoder.encode_into(message, frame, 4)
    except (TypeError, OverflowError) as error:
        raise ValueError(str(error)) from error
    if len(frame) - 4 > LONGEST:
        raise ValueError(f"{len(frame)} bytes are too many for one message")
    frame[:4] = (len(frame) - 4).to_bytes(4, "big")
    return frame


class Frames:
    """Cuts what arrives into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def pull(self, sock: socket.socket) -> bool:
        """Receive once; False at the end of the stream.

        :raises BlockingIOError: nothing is there, and the socket does not wait.
        """
        try:
            chunk = sock.recv(CHUNK)
        except ConnectionError:
            return False
        self._buffer += chunk
        return bool(chunk)

    def cut(self) -> list[bytes]:
        """Return the frames that are complete, and forget them."""
        buffer, found, start = self._buffer, [], 0
        while len(buffer) - start >= 4:
            end = start + 4 + int.from_bytes(buffer[start : start + 4], "big")
            if len(buffer) < end:
                break
            with memoryview(buffer) as view:
                found.append(bytes(view[start + 4 : end]))
            start = end
        if start:
            del buffer[:start]
        return found


hidden: weakref.WeakSet[socket.socket] = weakref.WeakSet()
"""The ends that belong to the process that made them: a fork closes its copies, or the other side
would never see the end of the stream."""
