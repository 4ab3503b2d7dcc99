"""A message as Redis keeps it: a head that scripts read, then the envelope's body.

Owns: lane, pack, unpack, pack_follow_up, unpack_follow_up, burial_head, unpack_burial.
May import: kernel.
"""

from __future__ import annotations

import functools
import struct

from celeriac.kernel.message import Buried, Envelope

_HEAD = struct.Struct(">cHdddI")
"""Priority digit, length of the queue's name, due, expires, at (unix seconds), attempt: 31 bytes.
The scripts know these places."""
_BURIAL = struct.Struct(">IdH")
"""Times handed out, at (unix seconds), length of the reason."""
_DIGITS = [str(n).encode() for n in range(10)]


@functools.lru_cache(4096)
def lane(priority: int, queue: str) -> str:
    """Return the name of one priority of a queue, as scripts take it."""
    return f"{min(9, max(0, priority))}:{queue}"


@functools.lru_cache(4096)
def _queue_bytes(queue: str) -> bytes:
    return queue.encode()


def pack(envelope: Envelope, at: float) -> bytes:
    """Return an envelope without its id as bytes.

    :param at: unix seconds at which it was published.
    """
    queue = _queue_bytes(envelope.queue)
    return b"".join(
        (
            _HEAD.pack(
                _DIGITS[min(9, max(0, envelope.priority))],
                len(queue),
                envelope.not_before,
                envelope.expires_at,
                at,
                envelope.attempt,
            ),
            queue,
            envelope.body,
        )
    )


@functools.lru_cache(4096)
def _queue_text(queue: bytes) -> str:
    return queue.decode()


def unpack(task_id: bytes, value: bytes) -> Envelope:
    """Return the envelope of an id and its bytes."""
    digit, size, due, expires, _, attempt = _HEAD.unpack_from(value)
    end = _HEAD.size + size
    return Envelope(
        task_id.decode(),
        _queue_text(value[_HEAD.size : end]),
        value[end:],
        digit[0] - 48,
        due,
        expires,
        attempt,
    )


def pack_follow_up(envelope: Envelope, at: float) -> bytes:
    """Return an envelope with its id as bytes."""
    task_id = envelope.id.encode()
    return len(task_id).to_bytes(2, "big") + task_id + pack(envelope, at)


def unpack_follow_up(packed: bytes) -> Envelope:
    """Return what `pack_follow_up` was given."""
    end = 2 + int.from_bytes(packed[:2], "big")
    return unpack(packed[2:end], packed[end:])


def burial_head(handed_out: int, at: float, reason: str) -> bytes:
    """Return what stands before a buried message; a reason over 64 KiB is cut."""
    text = reason.encode(errors="backslashreplace")[:65_535]
    return _BURIAL.pack(handed_out, at, len(text)) + text


def unpack_burial(task_id: bytes, packed: bytes) -> Buried:
    """Return the burial of an id and its bytes."""
    handed_out, at, size = _BURIAL.unpack_from(packed)
    end = _BURIAL.size + size
    reason = packed[_BURIAL.size : end].decode(errors="replace")
    return Buried(unpack(task_id, packed[end:]), reason, at, handed_out)
