"""What a worker tells of its tasks beside their results: signals to receivers in this process.

Owns: Teller.  Thread rule: any thread.  May import: kernel, ports, client, worker.
"""

from __future__ import annotations

from typing import Any

from celeriac.client.app import Celeriac
from celeriac.client.attempt import ErrorInfo, signal_failure
from celeriac.client.signals import (
    task_failure,
    task_internal_error,
    task_received,
    task_rejected,
    task_revoked,
    task_unknown,
)
from celeriac.kernel.errors import NotRegistered, Terminated
from celeriac.kernel.failure import traceback_text
from celeriac.kernel.message import Delivery
from celeriac.ports.registry import accept
from celeriac.worker.request import Message, Request

SIGTERM = 15
"""What a task is said to be terminated by where nothing else is known."""


class Teller:
    """Tells of the tasks of one worker in one process.

    :param hostname: the worker's node name.
    """

    def __init__(self, app: Celeriac, hostname: str) -> None:
        self._app, self._hostname = app, hostname
        self._acceptance = accept(app.conf.accept_content)

    def _request(self, delivery: Delivery) -> Request:
        return Request(delivery, self._hostname, self._acceptance)

    def _sender(self, name: str) -> Any:
        """Return the task of a name, or the name where there is none."""
        try:
            return self._app.tasks[name]
        except NotRegistered:
            return name

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
        if task_revoked.receivers:
            request = self._request(delivery)
            task_revoked.send(
                sender=self._sender(request.name),
                request=request,
                terminated=terminated,
                signum=signum,
                expired=expired,
            )

    def unrunnable(self, delivery: Delivery, name: str, error: BaseException) -> None:
        """Tell that a message is no task, or one that is not known here."""
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
        if task_failure.receivers:
            request = self._request(delivery)
            signal_failure(self._sender(request.name), request, error, None)

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
