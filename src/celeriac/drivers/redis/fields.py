"""What the scripts take for a message that is published: in celeriac's form or in Celery's.

Owns: fields.  May import: kernel, drivers.redis.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from celeriac.drivers.redis.kombu import Layout, encode
from celeriac.drivers.redis.message import lane, pack
from celeriac.kernel.errors import BrokerRejected
from celeriac.kernel.message import Envelope

CELERY_LANE = "k:"
"""Begins a lane that is the name of one of Celery's lists."""


def fields(
    envelope: Envelope, now: float, layout: Layout | None, *, wire: str = ""
) -> tuple[Any, ...]:
    """Return (id, lane, due, value) of an envelope.

    :param now: unix seconds.
    :param layout: of Celery's keys; None where they cannot be used.
    :param wire: the form to use where the envelope names none.
    :raises BrokerRejected: Celery's form is asked for where it cannot be.
    """
    if (envelope.wire or wire) != "celery":
        due = envelope.not_before
        return (
            envelope.id,
            lane(envelope.priority, envelope.queue),
            f"{due:.6f}" if due else "",
            pack(envelope, now),
        )
    if layout is None:
        raise BrokerRejected(
            f'queue {envelope.queue} has wire="celery": Celery\'s lists cannot be used in a Redis'
            " Cluster, where their keys lie on different nodes; use one server"
        )
    if not envelope.wire and envelope.priority == 0:
        # Nothing said how urgent it is: as Celery's own, which say 0, not behind all of them.
        envelope = dataclasses.replace(envelope, priority=9)
    # With a due time too: only Celery workers may be there, which wait for it themselves.
    name, raw = encode(envelope, layout, now=now)
    return envelope.id, CELERY_LANE + name, "", raw
