"""A call made into an envelope: options merged, route asked, arguments encoded.

Options are merged in Celery's order: what the call says, then the task's own attributes, then the
route, then the settings.

Owns: Plan, Carry, compose, OPTIONS.  May import: kernel, ports, client.
"""

from __future__ import annotations

import datetime as dt
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from celeriac.client.announce import before_publish
from celeriac.client.current import get_current_request
from celeriac.client.signals import before_task_publish
from celeriac.kernel.errors import (
    CapabilityMissing,
    ImproperlyConfigured,
    PayloadTooLarge,
    QueueNotFound,
    WireError,
)
from celeriac.kernel.ids import uuid
from celeriac.kernel.message import Envelope
from celeriac.kernel.plain import is_plain
from celeriac.kernel.wire import NO_EMBED, Headers, pack
from celeriac.ports.codec import Codec, Compression
from celeriac.ports.registry import find_codec, find_compression

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

OPTIONS = frozenset(
    "countdown eta expires queue exchange routing_key priority serializer compression headers "
    "retry retry_policy ignore_result time_limit soft_time_limit reply_to correlation_id chord "
    "chain group_id group_index parent_id root_id argsrepr kwargsrepr task_id link link_error "
    "shadow stamped_headers stamps replaced_task_nesting origin wire".split()
)
"""Options that mean something here."""

ACCEPTED = frozenset(
    "producer connection router publisher add_to_parent delivery_mode declare mandatory immediate "
    "app_id message_id user_id cluster_id timestamp exchange_type route_name task_type "
    "task_protocol content_type content_encoding expiration type confirm_timeout timeout".split()
)
"""Celery's and AMQP's options that change nothing in what is sent here."""

TASK_ATTRIBUTES = (
    "queue routing_key exchange priority expires serializer compression time_limit "
    "soft_time_limit ignore_result"
).split()
"""Attributes of a task that stand in for options of the call."""


@dataclass(slots=True)
class Carry:
    """What travels with a step of a workflow beside its call; see `kernel/plan.py`."""

    slot: tuple[str, int] | None = None
    gather: str | None = None
    collect: bool = False
    fed: bool = True
    """The results that are gathered become its first argument."""
    more: str | None = None
    lane: dict[str, Any] | None = None

    def mark(self, head: Headers) -> None:
        """Write what must be readable without the payload."""
        if self.slot is not None:
            head.slot = self.slot
        head.gather, head.collect, head.fed = self.gather, self.collect, self.fed


class Plan:
    """What is the same for every plain call of one task; made anew when a setting changes."""

    __slots__ = ("codec", "compression", "fixed", "limit", "options", "queue", "version", "wire")

    def __init__(self, app: Celeriac, name: str, task: Any) -> None:
        conf = app.conf
        self.version = conf.version
        self.options: dict[str, Any] = {}
        if task is not None:
            for option in TASK_ATTRIBUTES:
                value = getattr(task, option, None)
                if value is not None:
                    self.options[option] = value
            if conf.task_ignore_result and "ignore_result" not in self.options:
                self.options["ignore_result"] = True
        router = app.router
        self.fixed = router.static
        if self.fixed:
            self.options = {**router.route(name, (), {}, {}, task), **self.options}
        self.codec: Codec = find_codec(self.options.get("serializer") or conf.task_serializer)
        method = self.options.get("compression") or conf.task_compression
        self.compression: Compression | None = find_compression(method) if method else None
        try:
            self.queue = router.queue_for(self.options)
        except QueueNotFound:
            self.queue = ""  # a call that names another queue is right all the same
        self.wire = router.wire_for(self.queue, self.options)
        self.limit: int = conf.task_max_body_size


def _seconds_at(value: Any, now: float, option: str, app: Celeriac) -> float:
    """Return the unix seconds of a date, or of seconds from now."""
    if isinstance(value, dt.datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=app.timezone)
        return float(value.timestamp())
    if isinstance(value, dt.timedelta):
        return now + float(value.total_seconds())
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return now + value
    if isinstance(value, str):
        try:
            return _seconds_at(dt.datetime.fromisoformat(value), now, option, app)
        except ValueError:
            pass
    raise ImproperlyConfigured(
        f"{option} cannot be {value!r:.100}: a datetime, a timedelta or a number of seconds"
    )


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse an option that nothing understands.

    :raises TypeError: names the nearest right one.
    """
    stamped = options.get("stamped_headers") or ()
    for name in options:
        if name not in OPTIONS and name not in ACCEPTED and name not in stamped:
            near = difflib.get_close_matches(name, OPTIONS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(
                f"apply_async() has no option {name!r}{hint} (a header goes in headers=)"
            )


def check_limits(hard: float | None, soft: float | None) -> None:
    """Refuse limits that contradict each other.

    :raises ValueError: the soft one is longer than the hard one.
    """
    if hard and soft and soft > hard:
        raise ValueError(
            f"soft_time_limit ({soft} s) must not be longer than time_limit ({hard} s)"
        )


def compose(
    app: Celeriac,
    name: str,
    args: Any,
    kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
    task: Any = None,
    carry: Carry | None = None,
) -> tuple[Envelope, Headers]:
    """Return the envelope of a call, and its headers.

    :param options: see `OPTIONS`.
    :param carry: what it takes along as a step of a workflow.
    :raises EncodeError: an argument cannot be carried by the serializer.
    :raises TypeError: an option is unknown.
    :raises PayloadTooLarge: the body is larger than `task_max_body_size`.
    """
    plan: Plan = app.plan(name, task)
    embed = NO_EMBED
    task_id = None
    if options or not plan.fixed:
        task_id = options.get("task_id")
        if options:
            check_options(options)
        route = {} if plan.fixed else app.router.route(name, args, kwargs, options, task)
        merged = {**route, **plan.options, **_given(options)}
        queue = plan.queue if merged == plan.options else ""
        embed = _embed(options)
    else:
        merged, queue = plan.options, plan.queue
    if not queue:
        queue = app.router.queue_for(merged)
    if task_id is None:
        task_id = uuid()
    request = get_current_request()
    head = Headers(name, task_id)
    head.origin = app.origin
    not_before = expires_at = 0.0
    priority = merged.get("priority")
    if request is not None and not request.called_directly:
        head.root_id, head.parent_id = request.root_id, request.id
        if priority is None and app.conf.task_inherit_parent_priority:
            priority = request.envelope.priority
    codec, compression = plan.codec, plan.compression
    if merged:
        not_before, expires_at = _times(app, merged)
        _fill(head, merged)
        if merged is not plan.options:
            if merged.get("serializer"):
                codec = find_codec(merged["serializer"])
            if merged.get("compression"):
                compression = find_compression(merged["compression"])
    if carry is not None:
        carry.mark(head)
        embed = _embed_carry(embed, carry)
    head.links = embed is not NO_EMBED
    wire = plan.wire if merged is plan.options else app.router.wire_for(queue, merged)
    if wire and wire not in app.family(app.broker_url).broker().caps.wires:
        raise CapabilityMissing(
            f"{name} goes to queue {queue} with wire={wire!r}, which this broker cannot write: it"
            " takes a Redis server (no cluster) that Celery workers use too"
        )
    if priority is None:
        priority = app.conf.task_default_priority
        if priority is None:
            # Among Celery's messages, what says nothing must not come behind all that say nothing.
            priority = 9 if wire == "celery" else 0
    if codec.content_type != "application/json":
        head.content_type, head.content_encoding = codec.content_type, codec.content_encoding
    if before_task_publish.receivers:
        envelope = Envelope(task_id, queue, b"", priority, not_before, expires_at)
        policy = options.get("retry_policy")
        envelope, head, args, kwargs, embed = before_publish(
            envelope, head, args, kwargs, embed, policy
        )
        task_id, priority = envelope.id, envelope.priority
        not_before, expires_at = envelope.not_before, envelope.expires_at
    payload = codec.dumps((args, kwargs, embed))
    if compression is not None:
        payload = compression.compress(payload)
        head.compression = compression.content_type
    body = pack(head, payload)
    if len(body) > plan.limit:
        raise PayloadTooLarge(
            f"the message of {name}[{task_id}] has {len(body):,} bytes, more than "
            f"task_max_body_size ({plan.limit:,}): pass a reference instead of the data"
        )
    if not 0 <= priority <= 9:
        # RabbitMQ's queues may have more levels: 10 is above 9 where x-max-priority says so.
        most = app.family(app.broker_url).broker().caps.priorities - 1
        priority = max(0, min(max(9, min(255, most)), int(priority)))
    envelope = Envelope(task_id, queue, body, priority, not_before, expires_at, wire=wire)
    return envelope, head


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _times(app: Celeriac, options: Mapping[str, Any]) -> tuple[float, float]:
    countdown, eta = options.get("countdown"), options.get("eta")
    expires = options.get("expires")
    if countdown is None and eta is None and expires is None:
        return 0.0, 0.0
    now = app.clock.time()
    not_before = 0.0
    if countdown is not None:
        not_before = _seconds_at(countdown, now, "countdown", app)
    elif eta is not None:
        if isinstance(eta, (int, float)):
            raise ImproperlyConfigured(f"eta cannot be {eta!r}: a datetime, or use countdown")
        not_before = _seconds_at(eta, now, "eta", app)
    if not_before <= now:
        not_before = 0.0
    return not_before, _seconds_at(expires, now, "expires", app) if expires is not None else 0.0


_HEADER_OPTIONS = (
    "root_id",
    "parent_id",
    "group_index",
    "shadow",
    "argsrepr",
    "kwargsrepr",
    "reply_to",
    "correlation_id",
    "stamped_headers",
    "stamps",
    "replaced_task_nesting",
    "origin",
)


def _fill(head: Headers, options: Mapping[str, Any]) -> None:
    for name in _HEADER_OPTIONS:
        value = options.get(name)
        if value is not None:
            setattr(head, name, value)
    if options.get("group_id") is not None:
        head.group = options["group_id"]
    chord = options.get("chord")
    if isinstance(chord, Mapping) and "task" not in chord and "group" in chord:
        head.slot = (chord["group"], chord["index"])
    names = options.get("stamped_headers")
    if names:
        head.stamps = {name: options[name] for name in names if name in options}
    hard, soft = options.get("time_limit"), options.get("soft_time_limit")
    if hard is not None or soft is not None:
        check_limits(hard, soft)
        head.timelimit = (hard, soft)
    if options.get("ignore_result") is not None:
        head.ignore_result = bool(options["ignore_result"])
    if options.get("headers"):
        head.extra = _plain_headers(options["headers"])
    if options.get("exchange"):
        exchange = options["exchange"]
        head.exchange = getattr(exchange, "name", exchange)
    if options.get("routing_key"):
        head.routing_key = options["routing_key"]


def _plain_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    extra = dict(headers)
    if not is_plain(extra):
        raise WireError(f"headers= must hold plain JSON values, not {headers!r:.200}")
    return extra


def _embed(options: Mapping[str, Any]) -> dict[str, Any]:
    callbacks, errbacks = _links(options.get("link")), _links(options.get("link_error"))
    chain, chord = options.get("chain"), options.get("chord")
    if isinstance(chord, Mapping) and "task" not in chord:
        chord = None  # a slot, which is in the headers
    if not (callbacks or errbacks or chain or chord):
        return NO_EMBED
    return {"callbacks": callbacks, "errbacks": errbacks, "chain": chain, "chord": chord}


def _embed_carry(embed: dict[str, Any], carry: Carry) -> dict[str, Any]:
    if carry.more is None and not carry.lane:
        return embed
    embed = dict(embed)
    if carry.more is not None:
        embed["more"] = carry.more
    if carry.lane:
        embed["lane"] = carry.lane
    return embed


def _links(value: Any) -> list[Any] | None:
    if not value:
        return None
    found = value if isinstance(value, (list, tuple)) else [value]
    return [dict(signature) for signature in found]
