"""What a worker tells of its tasks beside their results: signals in this process, events to all.

Owns: Teller.  Thread rule: any thread.  May import: kernel, ports, client, worker.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from celeriac.client.app import Celeriac
from celeriac.client.attempt import ErrorInfo, signal_failure
from celeriac.client.context import Context
from celeriac.client.signals import (
    task_failure,
    task_internal_error,
    task_received,
    task_rejected,
    task_revoked,
    task_unknown,
)
from celeriac.kernel.errors import Ignore, NotRegistered, Reject, Retry, Terminated, WireError
from celeriac.kernel.events import Line, Received, Started, Succeeded, event
from celeriac.kernel.failure import traceback_text
from celeriac.kernel.message import Delivery, Settlement, Verdict
from celeriac.kernel.redact import bounded_repr
from celeriac.kernel.wire import iso_time
from celeriac.ports.registry import accept
from celeriac.worker.request import Message, Request

SIGTERM = 15
"""What a task is said to be terminated by where nothing else is known."""


Tell = Callable[[Sequence[Line]], None]


class Switch(Protocol):
    """Whether events of tasks are wanted: looked at for each task, as `switch[0]`."""

    def __getitem__(self, index: int, /) -> int: ...


OFF: Switch = b"\0"


def shared_switch() -> mmap.mmap:
    """Return a switch that processes forked later share, so that it can be turned while they run."""
    return mmap.mmap(-1, 1)


class Teller:
    """Tells of the tasks of one worker in one process.

    :param hostname: the worker's node name.
    :param switch: whether events are wanted.
    :param tell: sends events.
    """

    def __init__(
        self, app: Celeriac, hostname: str, *, switch: Switch = OFF, tell: Tell | None = None
    ) -> None:
        self._app, self._hostname = app, hostname
        self._switch, self._tell = switch, tell
        self._acceptance = accept(app.conf.accept_content)

    def _request(self, delivery: Delivery) -> Request:
        return Request(delivery, self._hostname, self._acceptance)

    def _sender(self, name: str) -> Any:
        """Return the task of a name, or the name where there is none."""
        try:
            return self._app.tasks[name]
        except NotRegistered:
            return name

    # -- events of what runs; whoever calls has looked at the switch ------------------------------

    def _say(self, kind: str, fields: Mapping[str, Any]) -> None:
        if self._tell is not None:
            try:
                self._tell([event(kind, self._app.clock.time(), fields)])
            except WireError:  # a text that UTF-8 has no form for
                pass

    def begins(self, request: Context) -> None:
        """Send the events of a task that was received and begins.

        Both here, where its arguments are decoded anyway: a task is claimed when it can begin.
        """
        if self._tell is None:
            return
        now, head, envelope = self._app.clock.time(), request.head, request.envelope
        received = Received(
            now,
            request.id,
            head.task,
            head.argsrepr or bounded_repr(request.args),
            head.kwargsrepr or (bounded_repr(request.kwargs) if request.kwargs else "{}"),
            head.root_id or head.id,
            head.parent_id,
            envelope.attempt,
            iso_time(envelope.not_before) if envelope.not_before else None,
            iso_time(envelope.expires_at) if envelope.expires_at else None,
        )
        self._tell((received, Started(now, request.id)))

    def ended(
        self,
        request: Context,
        settlement: Settlement,
        error: BaseException | None,
        value: Any,
        traceback: str | None,
        limit: int,
    ) -> None:
        """Send the event of how a task ended."""
        if error is None:
            # Not one that must run again, since the store was away for what follows it.
            if self._tell is not None and settlement.verdict is Verdict.ACK:
                now, shown = self._app.clock.time(), bounded_repr(value, limit)
                self._tell((Succeeded(now, request.id, shown, settlement.runtime),))
            return
        said: dict[str, Any] = {"uuid": request.id}
        if isinstance(error, Retry):
            said.update(exception=bounded_repr(error.exc or error), traceback=traceback)
            self._say("task-retried", said)
        elif isinstance(error, Reject):
            self._say("task-rejected", {**said, "requeue": bool(error.requeue)})
        elif isinstance(error, Ignore):
            return
        else:
            said.update(exception=bounded_repr(error), traceback=traceback)
            self._say("task-failed", said)

    # -- what is told of whether events are wanted or not -----------------------------------------

    def received(self, delivery: Delivery) -> None:
        """Tell that a task was taken from its queue."""
        if task_received.receivers:
            task_received.send(sender=self._hostname, request=self._request(delivery))

    def revoked(
        self,
        delivery: Delivery,
        *,
        terminated: bool = False,
        signum: int | None = None,
        expired: bool = False,
    ) -> None:
        """Tell that a task will not be run, or run on, since it was revoked or has expired."""
        if self._switch[0]:
            said = {"terminated": terminated, "signum": signum, "expired": expired}
            self._say("task-revoked", {"uuid": delivery.envelope.id, **said})
        if task_revoked.receivers:
            request = self._request(delivery)
            task_revoked.send(
                sender=self._sender(request.name),
                request=request,
                terminated=terminated,
                signum=signum,
                expired=expired,
            )

    def unrunnable(
        self, delivery: Delivery, name: str, error: BaseException, *, final: bool
    ) -> None:
        """Tell that a message is no task, or one that is not known here.

        :param final: it is buried, and not left to another worker.
        """
        if self._switch[0] and final:
            self._failed_event(delivery, error)
        if isinstance(error, NotRegistered) and task_unknown.receivers:
            message = Message(delivery)
            task_unknown.send(
                sender=self._hostname,
                message=message,
                exc=error,
                name=name,
                id=delivery.envelope.id,
            )
        elif task_rejected.receivers and not isinstance(error, NotRegistered):
            task_rejected.send(sender=self._hostname, message=Message(delivery), exc=error)

    def lost(self, delivery: Delivery, error: Exception, *, final: bool) -> None:
        """Tell that the process of a task is gone.

        :param final: the task has failed, and will not be run again.
        """
        if isinstance(error, Terminated):
            self.revoked(delivery, terminated=True, signum=SIGTERM)
        elif final:
            self.failed(delivery, error)

    def failed(self, delivery: Delivery, error: BaseException) -> None:
        """Tell that a task failed without its code having said so."""
        if self._switch[0]:
            self._failed_event(delivery, error)
        if task_failure.receivers:
            request = self._request(delivery)
            signal_failure(self._sender(request.name), request, error, None)

    def _failed_event(self, delivery: Delivery, error: BaseException) -> None:
        said = {"uuid": delivery.envelope.id, "exception": bounded_repr(error), "traceback": None}
        self._say("task-failed", said)

    def broke(self, delivery: Delivery, error: Exception) -> None:
        """Tell that running a task failed for a reason that is not the task's."""
        if task_internal_error.receivers:
            request = self._request(delivery)
            task_internal_error.send(
                sender=self._sender(request.name),
                task_id=request.id,
                args=request.args,
                kwargs=request.kwargs,
                request=request,
                exception=error,
                traceback=error.__traceback__,
                einfo=ErrorInfo(error, traceback_text(error)),
            )
