"""Task messages on the wire: our frame of headers and payload, and Celery's task protocol 2.

A body is one frame: a version byte, the length of the headers (4 bytes, big-endian), the headers
as JSON, then the payload.  The payload is Celery's own body, `[args, kwargs, embed]`, encoded by
the codec and compression that the headers name, so that a driver which speaks Celery's protocol
passes it on untouched.  Headers carry Celery's names; what an `Envelope` says already (queue,
priority, eta, expiry, retries) is not in them.

Owns: Headers, pack, unpack, task_name, to_celery, celery_form, from_celery, parse_time, iso_time.
May import: kernel, msgspec.
"""

from __future__ import annotations

import datetime as _dt
from collections.abc import Mapping
from typing import Any

import msgspec

from celeriac.kernel.errors import WireError
from celeriac.kernel.message import Envelope
from celeriac.kernel.protocol1 import upgrade

VERSION = 1
_PREFIX = 5

NO_EMBED: dict[str, Any] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
"""The third member of a payload that has no follow-ups, as Celery writes it."""


class Headers(msgspec.Struct, omit_defaults=True):
    """What a message says about its task beside the arguments.  Celery's names and meanings."""

    task: str
    id: str
    root_id: str | None = None
    parent_id: str | None = None
    group: str | None = None
    group_index: int | None = None
    shadow: str | None = None
    timelimit: tuple[float | None, float | None] = (None, None)
    """(hard, soft) seconds."""
    ignore_result: bool | None = None
    """None: as the task says where it runs."""
    origin: str | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    replaced_task_nesting: int = 0
    stamped_headers: list[str] | None = None
    stamps: dict[str, Any] | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    content_type: str = "application/json"
    content_encoding: str = "utf-8"
    compression: str | None = None
    eta: str | None = None
    """Only from a producer that wrote it here; celeriac's own is the envelope's `not_before`."""
    expires: str | None = None
    lang: str = "py"
    exchange: str = ""
    routing_key: str | None = None
    """Only where it is not the queue's name."""
    parked_at: float = 0.0
    """Unix seconds at which a worker first handed it back because it could not run it."""
    parked: int = 0
    """How often that has happened."""
    slot: tuple[str, int] | None = None
    """(group, index) that the end of its branch fills, for the chord that waits."""
    gather: str | None = None
    """The group whose results are its first argument."""
    collect: bool = False
    """Exceptions are among those results; else one of them makes it fail."""
    fed: bool = True
    """False: it waits for that group and takes no argument of it."""
    links: bool = False
    """Its payload names what follows: who ends it unread must see to that."""
    doom: dict[str, Any] | None = None
    """How the task ended whose follow-ups these are: this message only ends what it carries."""
    extra: dict[str, Any] = {}
    """The caller's own headers."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Headers)


class _Name(msgspec.Struct):
    task: str


_name_decoder = msgspec.json.Decoder(_Name)


def pack(headers: Headers, payload: bytes) -> bytes:
    """Return the frame of `headers` and `payload`.

    :raises WireError: a header cannot be written as JSON.
    """
    try:
        head = _encoder.encode(headers)
    except (TypeError, ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise WireError(
            f"the headers of {headers.task} cannot be written as JSON: {error}"
        ) from error
    return b"\x01" + len(head).to_bytes(4, "big") + head + payload


def _split(body: bytes) -> tuple[memoryview, int]:
    if len(body) < _PREFIX or body[0] != VERSION:
        raise WireError(f"not a task message: it begins with {bytes(body[:8])!r}")
    end = _PREFIX + int.from_bytes(body[1:_PREFIX], "big")
    if end > len(body):
        raise WireError(f"a task message cut off: headers end at byte {end} of {len(body)}")
    return memoryview(body), end


def unpack(body: bytes) -> tuple[Headers, bytes]:
    """Return the headers and the payload of a frame.

    :raises WireError: the bytes are no frame, or a header is missing or of a wrong type.
    """
    view, end = _split(body)
    try:
        headers = _decoder.decode(view[_PREFIX:end])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"the headers of a task message are wrong: {error}") from error
    return headers, body[end:]


def task_name(body: bytes) -> str:
    """Return the task's name without decoding the rest.

    :raises WireError: as `unpack`.
    """
    view, end = _split(body)
    try:
        return _name_decoder.decode(view[_PREFIX:end]).task
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"the headers of a task message are wrong: {error}") from error


def parse_time(value: str, field: str) -> float:
    """Return the unix seconds of an ISO 8601 date; one without an offset is UTC.

    :param field: what to call it in the error.
    :raises WireError: it is no date.
    """
    try:
        when = _dt.datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise WireError(f"{field} is no ISO 8601 date: {value!r:.100}") from error
    if when.tzinfo is None:
        when = when.replace(tzinfo=_dt.UTC)
    return when.timestamp()


def iso_time(seconds: float) -> str:
    """Return unix seconds as an ISO 8601 date in UTC."""
    return _dt.datetime.fromtimestamp(seconds, _dt.UTC).isoformat()


_OWN = ("slot", "gather", "collect", "fed", "links", "doom")
"""Headers that Celery has no name for; they travel together in one that it passes over."""
_DEFAULTS = {
    "slot": None,
    "gather": None,
    "collect": False,
    "fed": True,
    "links": False,
    "doom": None,
}


def _after(now: float, expiration: Any) -> float:
    try:
        return now + float(expiration) / 1000
    except (TypeError, ValueError) as error:
        raise WireError(f"expiration is no number of ms: {expiration!r:.100}") from error


_CELERY_HEADERS = frozenset(
    "lang task id shadow eta expires group group_index retries timelimit root_id parent_id "
    "argsrepr kwargsrepr origin ignore_result replaced_task_nesting stamped_headers stamps".split()
)


_PARKED = "celeriac_parked"
"""A header of ours: since when (unix seconds) and how often a message was handed back."""
_NOT_EXTRA = frozenset({"compression", "celeriac", _PARKED})


def to_celery(
    envelope: Envelope, *, now: float = 0.0
) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Return (headers, properties, body) of Celery's task protocol 2.

    :param now: unix seconds; gives a message that expires the property `expiration`, ms from now.
    :raises WireError: the envelope's body is no frame.
    """
    head, payload = unpack(envelope.body)
    headers, properties = celery_form(envelope, head)
    if now and envelope.expires_at:
        properties["expiration"] = str(max(0, round((envelope.expires_at - now) * 1000)))
    return headers, properties, payload


def celery_form(envelope: Envelope, head: Headers) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the (headers, properties) that a message has in Celery's task protocol 2."""
    headers: dict[str, Any] = {
        "lang": head.lang,
        "task": head.task,
        "id": head.id,
        "shadow": head.shadow,
        "eta": iso_time(envelope.not_before) if envelope.not_before else None,
        "expires": iso_time(envelope.expires_at) if envelope.expires_at else None,
        "group": head.group,
        "group_index": head.group_index,
        "retries": envelope.attempt,
        "timelimit": list(head.timelimit),
        "root_id": head.root_id or head.id,
        "parent_id": head.parent_id,
        "argsrepr": head.argsrepr,
        "kwargsrepr": head.kwargsrepr,
        "origin": head.origin,
        "ignore_result": bool(head.ignore_result),
        "replaced_task_nesting": head.replaced_task_nesting,
        "stamped_headers": head.stamped_headers,
        "stamps": head.stamps or {},
        **head.extra,
    }
    if head.compression:
        headers["compression"] = head.compression
    if not head.fed or head.slot or head.gather or head.collect or head.links or head.doom:
        own = {name: getattr(head, name) for name in _OWN}
        headers["celeriac"] = {k: value for k, value in own.items() if value != _DEFAULTS[k]}
    if head.parked:
        headers[_PARKED] = [head.parked_at, head.parked]
    properties: dict[str, Any] = {
        "correlation_id": head.correlation_id or head.id,
        "reply_to": head.reply_to or "",
        "delivery_mode": 2,
        "priority": envelope.priority,
        "content_type": head.content_type,
        "content_encoding": head.content_encoding,
    }
    return headers, properties


def from_celery(
    headers: Mapping[str, Any],
    properties: Mapping[str, Any],
    body: bytes,
    *,
    queue: str,
    now: float = 0.0,
    most_urgent: int = 9,
) -> Envelope:
    """Return the envelope of a message that Celery sent (task protocol 2 or 1).

    :param queue: where it was found.
    :param now: unix seconds, from which the property `expiration` counts where no header says when.
    :param most_urgent: the highest priority that the broker knows.
    :raises WireError: a header is missing or of a wrong type; the message says which.
    """
    if "task" not in headers:
        headers, body = upgrade(headers, properties, body)
    known: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for name, value in headers.items():
        if name not in _CELERY_HEADERS:
            if name not in _NOT_EXTRA:
                extra[name] = value
        elif value is not None:
            known[name] = value
    if not known.get("ignore_result"):
        known.pop("ignore_result", None)  # Celery writes False where nothing was said
    eta, expires = known.pop("eta", None), known.pop("expires", None)
    retries = known.pop("retries", 0)
    own = headers.get("celeriac")
    if isinstance(own, Mapping):
        known.update({name: own[name] for name in _OWN if name in own})
    parked = headers.get(_PARKED) or (0.0, 0)
    expiration = properties.get("expiration")
    ends = _after(now, expiration) if now and expiration else 0.0
    info = properties.get("delivery_info") or {}
    known.update(
        extra=extra,
        compression=headers.get("compression"),
        correlation_id=properties.get("correlation_id"),
        reply_to=properties.get("reply_to") or None,
        content_type=properties.get("content_type") or "application/json",
        content_encoding=properties.get("content_encoding") or "utf-8",
        exchange=info.get("exchange") or "",
        routing_key=info.get("routing_key") if info.get("routing_key") != queue else None,
    )
    try:
        known["parked_at"], known["parked"] = parked
        head = msgspec.convert(known, Headers)
        return Envelope(
            id=head.id,
            queue=queue,
            body=pack(head, body),
            priority=max(0, min(most_urgent, int(properties.get("priority") or 0))),
            not_before=parse_time(eta, "eta") if eta else 0.0,
            expires_at=parse_time(expires, "expires") if expires else ends,
            attempt=int(retries),
        )
    except (msgspec.ValidationError, TypeError, ValueError, OverflowError) as error:
        raise WireError(f"a message from Celery is wrong: {error}") from error
