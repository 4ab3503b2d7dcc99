"""How a task ends that is not run: its record, its slot in a chord, and what it carried.

Owns: doom, withdraw, end_withdrawn.  May import: kernel, ports, client.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

from celeriac.client.context import Context
from celeriac.client.records import make_record
from celeriac.kernel.errors import TaskRevokedError, WireError
from celeriac.kernel.events import event
from celeriac.kernel.failure import describe
from celeriac.kernel.ids import child_id
from celeriac.kernel.message import Envelope, Part
from celeriac.kernel.states import REVOKED
from celeriac.kernel.wire import Headers, pack, unpack
from celeriac.ports.broker import TakesBack

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac


def doom(
    envelope: Envelope,
    head: Headers,
    payload: bytes,
    state: str,
    error: BaseException,
    traceback: str | None = None,
    *,
    unread: bool,
) -> Envelope:
    """Return the message that ends what a failed task's message carries.

    It is the same message: who fails a task need not read its payload, nor write a record for each
    of the thousand steps that will not run.

    :param unread: errbacks were not called, and the lane does not go on yet.
    """
    head = copy.copy(head)
    head.doom = {
        "id": head.id,
        "state": state,
        "error": describe(error),
        "traceback": traceback,
        "unread": unread,
    }
    head.id = child_id(head.id, "end")
    head.slot = head.gather = head.eta = head.expires = None
    try:
        body = pack(head, payload)
    except WireError:
        head.doom["error"] = {
            "exc_type": type(error).__name__,
            "exc_message": [str(error)],
            "exc_module": type(error).__module__,
        }
        body = pack(head, payload)
    return Envelope(head.id, envelope.queue, body, envelope.priority)


def withdraw(app: Celeriac, ids: Sequence[str]) -> set[str]:
    """Take tasks back from the queues, where the broker can, and make them REVOKED; return which."""
    broker = app.broker
    taken: Sequence[Envelope] = ()
    if isinstance(broker, TakesBack):
        taken = broker.take_back(ids)
    elif broker.caps.withdraws:
        taken = [
            Envelope(task_id, "", pack(Headers("", task_id), b""))
            for task_id in broker.withdraw(ids)
        ]
    if taken:
        end_withdrawn(app, taken)
    return {envelope.id for envelope in taken}


def end_withdrawn(app: Celeriac, envelopes: Sequence[Envelope]) -> None:
    """Make REVOKED what was taken back from the queues; a chord that waits for it hears of it."""
    error = TaskRevokedError("revoked")
    records, parts, dooms = [], [], []
    for envelope in envelopes:
        try:
            head, payload = unpack(envelope.body)
        except WireError:
            head, payload = Headers("", envelope.id), b""
        record = make_record(app, Context(head, envelope), REVOKED, error)
        records.append(record)
        if head.slot is not None:
            parts.append(Part(head.slot[0], head.slot[1], record))
        if head.links and head.doom is None:
            dooms.append(doom(envelope, head, payload, REVOKED, error, unread=True))
    app.store(records)
    if dooms:
        app.send_envelopes(dooms)
    if parts:
        ready = app.results.close_parts(parts)
        if ready:
            app.send_envelopes([one.envelope for one in ready])
            app.results.mark_sent([one.group for one in ready])
    if app.conf.task_send_sent_event:
        now, said = app.clock.time(), {"terminated": False, "signum": None, "expired": False}
        app.tell([event("task-revoked", now, {"uuid": one.id, **said}) for one in envelopes])
