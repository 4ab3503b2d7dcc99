"""Chords that a Celery producer has begun: counted in Celery's keys, with its workers' parts and ours.

A part is counted while its task is still held, and the body is sent, once for a group, before the task
is acknowledged: a crash in between repeats the part and loses nothing.

Owns: Chord, chord_of, part_of, outcome.  May import: kernel, ports, drivers.redis.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celeriac.drivers.redis.kombu import LARGEST_BODY
from celeriac.kernel.errors import CeleryError
from celeriac.kernel.message import Envelope, Record, Settlement, Verdict
from celeriac.kernel.states import FAILURE, READY_STATES, SUCCESS
from celeriac.kernel.wire import Headers, pack, unpack
from celeriac.ports.registry import find_codec, find_compression

_MARKS = (b'"chord": {', b'"compression":"', b'"content_type":"')
"""One of these is in the message of a task that a chord waits for, whose payload Python wrote as
JSON, or that has to be read to know."""

_COMPOSED = frozenset({"celery.group", "celery.chain", "celery.chord", "celery.chunks"})
"""Signatures that are no one task."""


@dataclass(frozen=True, slots=True)
class Chord:
    """What a member of a chord's header says of it."""

    group: str
    place: int
    body: Mapping[str, Any]
    """The signature of what is called with the results."""
    head: Headers

    def keys(self, before: str) -> tuple[str, str, str]:
        """Return Celery's keys of the parts, the difference to their count, and their count."""
        base = f"{before}celery-taskset-meta-{self.group}"
        return f"{base}.j", f"{base}.t", f"{base}.s"

    @property
    def body_id(self) -> str:
        """The task id of the body, known to who waits for it."""
        steps: list[Mapping[str, Any]] = [self.body, *_steps(self.body)]
        last = steps[-1]
        options = last.get("options") or self.body.get("options") or {}
        return str(options.get("task_id") or uuid.uuid5(uuid.NAMESPACE_OID, self.group))


def chord_of(envelope: Envelope) -> Chord | None:
    """Return the chord that a task is a part of; None for other tasks."""
    if not any(mark in envelope.body for mark in _MARKS):
        return None
    try:
        head, payload = unpack(envelope.body)
        if head.compression:
            method = find_compression(head.compression)
            payload = method.decompress(payload, limit=LARGEST_BODY)
        if head.content_type == "application/json":
            embed = json.loads(payload)[2]
        else:
            codec = find_codec(head.content_type)
            if codec.trusted_only:
                return None  # whether it may be read is the worker's to say
            embed = codec.loads(payload)[2]
        body = embed.get("chord")
    except (CeleryError, ValueError, LookupError, TypeError, AttributeError):
        return None
    if not head.group or not isinstance(body, dict) or not body.get("task"):
        return None
    return Chord(head.group, head.group_index or 0, body, head)


def part_of(settlement: Settlement) -> str | None:
    """Return the part that a settlement closes, as Celery writes it; None where it is not final."""
    record, task_id = settlement.record, settlement.delivery.envelope.id
    if settlement.verdict not in (Verdict.ACK, Verdict.BURY):
        return None
    if record is None or record.body is None:
        return json.dumps([1, task_id, SUCCESS, None])  # its result is not kept
    if record.state not in READY_STATES:
        return None
    return json.dumps([1, task_id, record.state, json.loads(record.body)["result"]])


def outcome(
    chord: Chord, parts: Sequence[bytes], *, queue: str, now: float, expires_at: float
) -> tuple[list[Record], list[Envelope]]:
    """Return what a complete chord leads to: its body with the results, or its failure.

    :param parts: all of them, as Celery writes them.
    :param queue: where what names no queue goes.
    :param now: unix seconds.
    :param expires_at: until when the record of a failure is kept.
    """
    unknown = _unknown(chord.body)
    if unknown:
        text = f"its body has a {unknown}, which only Celery's workers can begin"
        return [_failure(chord.body_id, text, now, expires_at)], []
    results = []
    for part in parts:
        _, task_id, state, result = json.loads(part)
        if state != SUCCESS:
            text = f"Dependency {task_id} raised {_said(result)}"
            failed = _failure(chord.body_id, text, now, expires_at)
            errbacks = (chord.body.get("options") or {}).get("link_error") or []
            errbacks = errbacks if isinstance(errbacks, list) else [errbacks]
            calls = [
                _call(one, [chord.body_id], chord, queue, now, f"errback {n}")
                for n, one in enumerate(errbacks)
            ]
            return [failed], calls
        results.append(result)
    return [], _begin(chord.body, [results], chord, queue, now)


def _steps(signature: Mapping[str, Any], of: str = "celery.chain") -> list[dict[str, Any]]:
    """Return the signatures that a chain, or a group, is made of; none for another one."""
    if signature.get("task") != of:
        return []
    steps = (signature.get("kwargs") or {}).get("tasks") or []
    return [step for step in steps if isinstance(step, dict)]


def _unknown(signature: Mapping[str, Any]) -> str:
    """Return the name of what cannot be begun here, '' where there is nothing of that kind."""
    members = _steps(signature, "celery.group") or _steps(signature)[:1]
    if members:
        return next(filter(None, map(_unknown, members)), "")
    name = str(signature.get("task"))
    return name if name in _COMPOSED else ""


def _begin(
    signature: Mapping[str, Any], args: list[Any], chord: Chord, queue: str, now: float
) -> list[Envelope]:
    """Return the messages that begin a signature: of each member of a group, the first of a chain."""
    members = _steps(signature, "celery.group")
    if members:
        return [one for member in members for one in _begin(member, args, chord, queue, now)]
    steps = _steps(signature)
    if not steps:
        return [_call(signature, args, chord, queue, now, "")]
    options = dict(steps[0].get("options") or {})
    options["chain"] = [*(options.get("chain") or ()), *reversed(steps[1:])]
    return _begin({**steps[0], "options": options}, args, chord, queue, now)


def _said(result: Any) -> str:
    if not isinstance(result, dict):
        return repr(result)
    said = result.get("exc_message")
    args = said if isinstance(said, (list, tuple)) else [said]
    return f"{result.get('exc_type')}({', '.join(map(repr, args))})"


def _failure(task_id: str, text: str, now: float, expires_at: float) -> Record:
    meta: dict[str, Any] = {
        "status": FAILURE,
        "result": {
            "exc_type": "ChordError",
            "exc_message": [text],
            "exc_module": "celery.exceptions",
        },
        "traceback": None,
        "children": [],
        "date_done": dt.datetime.fromtimestamp(now, dt.UTC).isoformat(),
        "task_id": task_id,
    }
    return Record(task_id, FAILURE, json.dumps(meta).encode(), expires_at=expires_at)


def _call(
    signature: Mapping[str, Any],
    args: list[Any],
    chord: Chord,
    queue: str,
    now: float,
    slot: str,
) -> Envelope:
    """Return the message of a signature, called with these arguments before its own."""
    options = signature.get("options") or {}
    task_id = options.get("task_id") or str(
        uuid.uuid5(uuid.NAMESPACE_OID, chord.group + slot) if slot else chord.body_id
    )
    own = list(signature.get("args") or ())
    head = Headers(
        str(signature["task"]),
        task_id,
        root_id=options.get("root_id") or chord.head.root_id,
        parent_id=chord.head.id,
        group=options.get("group_id"),
        group_index=options.get("group_index"),
        extra=options.get("headers") or {},
    )
    embed = {
        "callbacks": options.get("link"),
        "errbacks": options.get("link_error"),
        "chain": options.get("chain"),
        "chord": options.get("chord"),
    }
    given = own if signature.get("immutable") else args + own
    call = [given, signature.get("kwargs") or {}, embed]
    try:
        payload = json.dumps(call).encode()
    except TypeError:  # read by another serializer, with values that JSON needs tags for
        payload = find_codec("json").dumps(call)
    urgency = options.get("priority")
    return Envelope(
        task_id,
        str(options.get("queue") or queue),
        pack(head, payload),
        9 - max(0, min(9, int(urgency or 0))),
        now + options["countdown"] if options.get("countdown") else 0.0,
        wire="celery",
    )
