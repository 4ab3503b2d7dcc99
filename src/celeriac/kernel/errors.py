"""Every exception of celeriac, in one tree.

    CeleryError
    ├── ImproperlyConfigured            settings, options or URLs that cannot work
    │   └── CapabilityMissing           a driver or pool cannot do what was declared
    ├── OperationalError                the broker or the store did not do it
    │   ├── BrokerUnavailable           ... but may if asked again
    │   │   └── PublishUncertain        the reply was lost: it may have been done
    │   └── BrokerRejected              ... and will not if asked again
    │       ├── BrokerFull              no room: disk, memory, queue length
    │       └── PayloadTooLarge
    ├── BackendError ── BackendGetMetaError, BackendStoreError
    ├── WireError                       bytes that are no message
    ├── EncodeError (ValueError)        a value that a codec cannot carry
    ├── DecodeError (ValueError)        bytes that a codec cannot read
    ├── ContentDisallowed               a codec that `accept_content` does not name
    ├── SecurityError
    ├── TaskPredicate                   raised by a task to say what becomes of it
    │   ├── Retry, Ignore (Replaced), Reject
    ├── TaskError
    │   ├── QueueNotFound (KeyError), IncompleteStream, NotRegistered (KeyError), AlreadyRegistered
    │   ├── TimeoutError, MaxRetriesExceededError, TaskRevokedError, InvalidTaskError, ChordError
    └── SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError, Terminated  (no CeleryError:
        they are billiard's in Celery, and `except CeleryError` does not catch them there either)

May import: the standard library only.
"""

from __future__ import annotations

import builtins
import datetime as _dt
from typing import Any


class CeleryWarning(UserWarning):
    """Base of celeriac's warnings."""


class AlwaysEagerIgnored(CeleryWarning):
    """`send_task` ignores `task_always_eager`."""


class DuplicateNodenameWarning(CeleryWarning):
    """Two workers use one node name."""


class FixupWarning(CeleryWarning):
    """An integration could not be set up."""


class NotConfigured(CeleryWarning):
    """No configuration was found."""


class SecurityWarning(CeleryWarning):
    """Something is less safe than it should be."""


class CPendingDeprecationWarning(PendingDeprecationWarning):
    """Will be deprecated."""


class CDeprecationWarning(DeprecationWarning):
    """Is deprecated."""


class CeleryError(Exception):
    """Base of celeriac's errors."""


class CeleryCommandException(Exception):
    """A command failed; carries its exit code."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class ImproperlyConfigured(CeleryError):
    """A setting, an option or a URL cannot work as it is; the message says what to change."""


class CapabilityMissing(ImproperlyConfigured):
    """A driver or a pool cannot do what was asked of it at declaration."""


class OperationalError(CeleryError):
    """The broker or the store could not be reached or did not do what it was asked."""


class BrokerUnavailable(OperationalError):
    """The broker cannot be reached now: trying again may help."""


class PublishUncertain(BrokerUnavailable):
    """The reply was lost: the message may be in the broker.  The same id may be sent again."""


class BrokerRejected(OperationalError):
    """The broker refused: trying again does not help."""


class BrokerFull(BrokerRejected):
    """The broker has no room for another message: disk, memory or queue length."""


class PayloadTooLarge(BrokerRejected):
    """A message is larger than the broker, or a setting, allows."""


class BackendError(CeleryError):
    """The result store failed."""


class BackendGetMetaError(BackendError):
    """A result could not be read."""


class BackendStoreError(BackendError):
    """A result could not be stored."""


class WireError(CeleryError):
    """Bytes or headers that are no task message."""


class EncodeError(CeleryError, ValueError):
    """A value that this codec cannot carry without changing it."""


class DecodeError(CeleryError, ValueError):
    """Bytes that this codec cannot read."""


class ContentDisallowed(CeleryError):
    """A codec that `accept_content` does not name."""


class SecurityError(CeleryError):
    """A signature or a certificate is wrong."""


class TaskPredicate(CeleryError):
    """Raised by a task to say what becomes of it."""


class Ignore(TaskPredicate):
    """The task's state must not be touched: it is acknowledged and nothing is stored."""


class Replaced(Ignore):
    """The task has named another one that runs in its place: raised by `Task.replace`.

    :param sig: the signature that takes its id.
    """

    def __init__(self, sig: Any = None) -> None:
        super().__init__("replaced by another task")
        self.sig = sig


class Reject(TaskPredicate):
    """Refuse the message: bury it, or with `requeue` give it back to the queue.

    :param reason: why, kept with the buried message.
    :param requeue: deliver it again instead.
    """

    def __init__(self, reason: object = None, requeue: bool = False) -> None:
        super().__init__(reason, requeue)
        self.reason = reason
        self.requeue = requeue

    def __repr__(self) -> str:
        return f"reject requeue={self.requeue}: {self.reason}"


class Retry(TaskPredicate):
    """The task is to be run again.

    :param when: seconds from now, or an aware datetime.
    :param sig: the signature that is sent, where one is at hand.
    """

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | str | None = None,
        when: float | _dt.datetime | None = None,
        is_eager: bool = False,
        sig: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(exc, when)
        self.message = message
        if isinstance(exc, str):
            self.exc: BaseException | None = None
            self.excs: str | None = exc
        else:
            self.exc, self.excs = exc, repr(exc) if exc is not None else None
        self.when = when
        self.is_eager = is_eager
        self.sig = sig

    def humanize(self) -> str:
        """Return when the retry is due, in words."""
        if isinstance(self.when, (int, float)):
            return f"in {self.when}s"
        return f"at {self.when}"

    def __str__(self) -> str:
        if self.message:
            return self.message
        if self.excs:
            return f"Retry {self.humanize()}: {self.excs}"
        return f"Retry {self.humanize()}"

    def __reduce__(self) -> tuple[Any, ...]:
        return self.__class__, (self.message, self.excs, self.when)


RetryTaskError = Retry


class TaskError(CeleryError):
    """Base of errors about a task."""


class QueueNotFound(KeyError, TaskError):
    """A task is routed to a queue that is not declared."""


class IncompleteStream(TaskError):
    """The end of a result stream is missing."""


class NotRegistered(KeyError, TaskError):
    """A task of that name is not known here."""

    def __repr__(self) -> str:
        return f"NotRegistered({', '.join(map(repr, self.args))})"


class AlreadyRegistered(TaskError):
    """A task of that name exists."""


class TimeoutError(TaskError, builtins.TimeoutError):  # noqa: A001 - Celery's name
    """The result was not there in time."""


class MaxRetriesExceededError(TaskError):
    """A task asked for one retry too many."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.task_args = kwargs.pop("task_args", [])
        self.task_kwargs = kwargs.pop("task_kwargs", {})
        super().__init__(*args)


class TaskRevokedError(TaskError):
    """The task was revoked, or expired before it began."""


class InvalidTaskError(TaskError):
    """A message is not a task, or its data are not."""


class ChordError(TaskError):
    """A part of the chord's header failed, or the chord cannot be counted."""


class SoftTimeLimitExceeded(Exception):
    """Raised inside a task whose soft time limit has passed."""

    def __str__(self) -> str:
        return f"SoftTimeLimitExceeded{self.args!s}"


class TimeLimitExceeded(Exception):
    """Stored for a task that was ended because its hard time limit had passed."""

    def __str__(self) -> str:
        return f"TimeLimitExceeded{self.args!s}"


class WorkerLostError(Exception):
    """The process that ran the task ended without an outcome."""


class Terminated(Exception):
    """The process that ran the task was told to end."""


class WorkerTerminate(SystemExit):
    """Ask the worker to end at once."""


class WorkerShutdown(SystemExit):
    """Ask the worker to finish what runs and end."""
