"""Records and parts as Redis keeps them: Celery's own form where there is one.

Owns: record_fields, read_record, part_fields, read_part.
May import: kernel, drivers.redis.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import msgspec

from celeriac.drivers.redis.keys import Keys
from celeriac.kernel.errors import PayloadTooLarge
from celeriac.kernel.message import Part, Record
from celeriac.kernel.states import READY_STATES, SUCCESS

FIELDS = 8
MAX_BODY = 500_000_000
"""Bytes; Redis takes strings up to 512 MB (`proto-max-bulk-len`)."""
LAST = 253_402_300_799.0
"""Unix seconds of the end of the year 9999: Redis refuses what is far behind."""

_read_head = msgspec.json.Decoder(tuple[str, str, int, int, float, bool]).decode


@functools.lru_cache(256)
def _openings(state: str) -> tuple[bytes, bytes]:
    name = json.dumps(state).encode()
    return b'{"status":' + name, b'{"status": ' + name


def expiry(at: float) -> int | str:
    """Return unix seconds as the milliseconds that Redis takes; '' means never."""
    return max(1, int(min(at, LAST) * 1000)) if at else ""


def _check_size(record: Record) -> None:
    """Refuse what the server would hang up on: it would be sent again and again.

    :raises PayloadTooLarge: says what to do.
    """
    if record.body is not None and len(record.body) > MAX_BODY:
        raise PayloadTooLarge(
            f"the result of {record.id} has {len(record.body):,} bytes, Redis takes {MAX_BODY:,}:"
            " put large data elsewhere and return where it is"
        )


def record_fields(record: Record, keys: Keys) -> tuple[Any, ...]:
    """Return what the scripts take for one record.

    :raises PayloadTooLarge: Redis does not take a value of that size.
    """
    _check_size(record)
    body, fence, state = record.body, record.fence, record.state
    says_all = (
        body is not None
        and body.startswith(_openings(state))
        and (state in READY_STATES or fence == (0, 1))
    )
    note = "" if says_all else _note(record)
    return (
        keys.record(record.id),
        record.id,
        state,
        fence[0],
        fence[1],
        expiry(record.expires_at),
        note,
        b"" if body is None else body,
    )


def _note(record: Record) -> str:
    """Return what stands beside a record whose body does not say it."""
    has_body = "-" if record.body is None else "+"
    attempt, handed_out = record.fence
    return f"{attempt} {handed_out} {record.expires_at!r} {has_body} {record.state}"


def read_record(task_id: str, body: bytes, note: bytes, lives: int, now: float) -> Record:
    """Return the record of what Redis keeps.

    :param lives: milliseconds that it will still be kept; below 0 means for ever.
    """
    if note:
        attempt, handed_out, expires, has_body, state = note.decode().split(" ", 4)
        fence = int(attempt), int(handed_out)
        found = body if has_body == "+" else None
        return Record(task_id, state, found, fence, float(expires))
    return Record(task_id, _status(body), body, (0, 1), now + lives / 1000 if lives > 0 else 0.0)


def _status(body: bytes) -> str:
    opening = body[:128]
    for start in (b'{"status": "', b'{"status":"'):
        if opening.startswith(start):
            state, quote, _ = opening[len(start) :].partition(b'"')
            if quote and b"\\" not in state:
                return state.decode()
    # Another program's order of keys, or another serializer.
    try:
        return str(json.loads(body)["status"])
    except (ValueError, KeyError, TypeError):
        return "PENDING"


def part_fields(part: Part) -> tuple[Any, ...]:
    """Return what the scripts take for one part; as `record_fields` otherwise."""
    record = part.record
    _check_size(record)
    head = [record.id, record.state, *record.fence, record.expires_at, record.body is None]
    packed = json.dumps(head).encode() + b"\n" + (record.body or b"")
    return part.group, part.index, "1" if record.state == SUCCESS else "0", packed


def read_part(packed: bytes) -> Record:
    """Return the record of a filled slot."""
    head, _, body = packed.partition(b"\n")
    task_id, state, attempt, handed_out, expires, nothing = _read_head(head)
    return Record(task_id, state, None if nothing else body, (attempt, handed_out), expires)
