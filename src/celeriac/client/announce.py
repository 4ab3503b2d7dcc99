"""The signals and the event of publishing: receivers see Celery's form of a message, and may change it in place.

Nothing here runs unless somebody is connected.

Owns: before_publish, after_publish, sent_event.  May import: kernel, ports, client.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from celeriac.client.signals import after_task_publish, before_task_publish
from celeriac.kernel.errors import CeleryError
from celeriac.kernel.events import event
from celeriac.kernel.message import Envelope
from celeriac.kernel.redact import bounded_repr
from celeriac.kernel.wire import Headers, celery_form, from_celery, unpack
from celeriac.ports.registry import find_codec, find_compression

logger = logging.getLogger("celeriac.signals")

LARGEST = 64 * 1024 * 1024
"""Bytes of a compressed body that is opened again for receivers of `after_task_publish`."""


def before_publish(
    envelope: Envelope,
    head: Headers,
    args: Any,
    kwargs: Mapping[str, Any],
    embed: Mapping[str, Any],
    policy: Any,
) -> tuple[Envelope, Headers, Any, dict[str, Any], dict[str, Any]]:
    """Let receivers see and change a message before it is encoded.

    :param envelope: as it will be sent, its body left out.
    :return: the envelope, headers, args, kwargs and embed that the receivers left.
    :raises WireError: a receiver made a header what it cannot be.
    """
    head.argsrepr = head.argsrepr or bounded_repr(args, 1024)
    head.kwargsrepr = head.kwargsrepr or bounded_repr(dict(kwargs), 1024)
    headers, properties = celery_form(envelope, head)
    # Copies: what a receiver adds must not show up in the caller's own dict, or in a constant.
    kwargs, embed = dict(kwargs), dict(embed)
    before_task_publish.send(
        sender=head.task,
        body=(args, kwargs, embed),
        exchange=head.exchange,
        routing_key=head.routing_key or envelope.queue,
        headers=headers,
        properties=properties,
        declare=[_queue(envelope.queue)],
        retry_policy=policy,
    )
    made = from_celery(headers, properties, b"", queue=envelope.queue)
    changed, _ = unpack(made.body)
    changed.exchange, changed.routing_key = head.exchange, head.routing_key
    if headers.get("ignore_result") == bool(head.ignore_result):
        changed.ignore_result = head.ignore_result  # Celery's form does not tell None from False
    return replace(made, body=b""), changed, args, kwargs, embed


def _queue(name: str) -> Any:
    """Return what looks like kombu's queue, as far as receivers look."""
    exchange = SimpleNamespace(name=name, type="direct")
    return SimpleNamespace(name=name, exchange=exchange, routing_key=name)


def after_publish(envelopes: Sequence[Envelope]) -> None:
    """Tell receivers what was sent."""
    for envelope in envelopes:
        try:
            head, payload = unpack(envelope.body)
            body = _decoded(head, payload)
        except CeleryError as error:
            logger.warning("after_task_publish is not sent for %s: %s", envelope.id, error)
            continue
        headers, _ = celery_form(envelope, head)
        after_task_publish.send(
            sender=head.task,
            body=body,
            headers=headers,
            exchange=head.exchange,
            routing_key=head.routing_key or envelope.queue,
        )


def sent_event(envelope: Envelope, at: float) -> bytes:
    """Return the event that says that an envelope was sent."""
    try:
        head, payload = unpack(envelope.body)
        args, kwargs, _ = _decoded(head, payload)
        head.argsrepr = head.argsrepr or bounded_repr(args)
        head.kwargsrepr = head.kwargsrepr or bounded_repr(kwargs)
    except (CeleryError, TypeError, ValueError):
        head = Headers("?", envelope.id)  # whoever runs it says what is wrong with it
    headers, _ = celery_form(envelope, head)
    fields = {
        "uuid": head.id,
        "name": head.task,
        "args": head.argsrepr,
        "kwargs": head.kwargsrepr,
        "queue": envelope.queue,
        "exchange": head.exchange,
        "routing_key": head.routing_key or envelope.queue,
        **{name: headers[name] for name in _ALIKE},
    }
    return event("task-sent", at, fields)


_ALIKE = ("retries", "eta", "expires", "root_id", "parent_id")


def _decoded(head: Headers, payload: bytes) -> Any:
    if head.compression:
        payload = find_compression(head.compression).decompress(payload, limit=LARGEST)
    return tuple(find_codec(head.content_type).loads(payload))
