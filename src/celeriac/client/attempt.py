"""One attempt at a task: hooks, the call, and what it ended with.

The same for a worker, whatever its pool, and for eager evaluation.

Owns: Attempt.  Knows nothing of brokers.  May import: kernel, client.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from celeriac.client.context import Context
from celeriac.client.current import pop_task, push_task
from celeriac.client.loop import Interruptible
from celeriac.client.signals import (
    task_failure,
    task_postrun,
    task_prerun,
    task_retry,
    task_success,
)
from celeriac.kernel.errors import (
    CeleryError,
    Ignore,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
    TaskPredicate,
    TimeLimitExceeded,
)
from celeriac.kernel.failure import traceback_text
from celeriac.kernel.retry import backoff, retries_for
from celeriac.kernel.states import FAILURE, IGNORED, REJECTED, RETRY, SUCCESS

logger = logging.getLogger("celeriac.client")

RunCoroutine = Callable[[Coroutine[Any, Any, Any]], Any]


def _limit_of(error: BaseException) -> BaseException:
    """Return the limit that a pool with a loop meant by cancelling, or the error itself."""
    match error.args:
        case ("celeriac-soft-limit",):
            return SoftTimeLimitExceeded()
        case ("celeriac-hard-limit",):
            return TimeLimitExceeded()
    return error


class ErrorInfo:
    """The exception and traceback that hooks are given (billiard's ExceptionInfo)."""

    def __init__(self, exception: BaseException, traceback: str) -> None:
        self.type = type(exception)
        self.exception = exception
        self.traceback = traceback
        self.tb = exception.__traceback__

    def __str__(self) -> str:
        return self.traceback


def state_of(error: BaseException) -> str:
    """Return the state that a task is in which raised an error."""
    if isinstance(error, Retry):
        return RETRY
    if isinstance(error, Ignore):
        return IGNORED
    return REJECTED if isinstance(error, Reject) else FAILURE


def signal_failure(task: Any, request: Context, error: BaseException, text: str | None) -> None:
    """Tell whoever listens that a task failed for good.

    :param text: the traceback as text; None where there is none.
    """
    task_failure.send(
        sender=task,
        task_id=request.id,
        exception=error,
        args=request.args,
        kwargs=request.kwargs,
        traceback=error.__traceback__,
        einfo=ErrorInfo(error, text or f"{type(error).__name__}: {error}"),
    )


class Attempt:
    """One run of a task for one request.

    :param run_coroutine: runs what an `async def` task returned, to its end.
    :param keep: encodes the value that was returned, before anybody is told of a success: one
        that cannot be kept is a failure.
    """

    __slots__ = (
        "args",
        "error",
        "keep",
        "kept",
        "kwargs",
        "request",
        "run_coroutine",
        "runtime",
        "started",
        "task",
        "token",
        "traceback",
        "value",
    )

    def __init__(
        self,
        task: Any,
        request: Context,
        run_coroutine: RunCoroutine,
        keep: Callable[[Any], Any] | None = None,
    ) -> None:
        self.task = task
        self.request = request
        self.args, self.kwargs = request.args, request.kwargs
        self.run_coroutine = run_coroutine
        self.error: BaseException | None = None
        self.value: Any = None
        self.keep = keep
        self.kept: Any = None
        """What `keep` returned."""
        self.traceback: str | None = None
        self.runtime = 0.0

    def run(self) -> Attempt:
        """Run the task here; its outcome is in `value`, `error`, `traceback`, `runtime`."""
        token = push_task(self.task, self.request)
        started = time.perf_counter()
        try:
            value = self._call()
            if inspect.iscoroutine(value):
                value = self.run_coroutine(value)
            self.value = value
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.error = error
        finally:
            self.runtime = time.perf_counter() - started
            self._end()
            pop_task(token)
        return self

    async def run_async(self) -> Attempt:
        """Await the task here, for a pool that has a loop; else as `run`."""
        token = push_task(self.task, self.request)
        started = time.perf_counter()
        try:
            value = self._call()
            if inspect.iscoroutine(value):
                value = await Interruptible(value)
            self.value = value
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.error = _limit_of(error)
        finally:
            self.runtime = time.perf_counter() - started
            self._end()
            pop_task(token)
        return self

    def _call(self) -> Any:
        task = self.task
        if task_prerun.receivers:
            task_prerun.send(
                sender=task,
                task_id=self.request.id,
                task=task,
                args=self.args,
                kwargs=self.kwargs,
            )
        if task.hooks_start:
            task.before_start(self.request.id, self.args, self.kwargs)
        return task.call(*self.args, **self.kwargs)

    def _end(self) -> None:
        if self.error is not None:
            self._settle_error(self.error)
        elif self.request.retry_asked is not None:
            self.error = self.request.retry_asked
        elif self.keep is not None:
            try:
                self.kept = self.keep(self.value)
            except (CeleryError, RecursionError, TypeError, ValueError) as error:
                # The task's own policies do not count: running it again would not help.
                self.error, self.traceback = error, traceback_text(error)
        if self.task.hooks_end:
            self._hooks()
        if self.error is not None:
            if task_failure.receivers or task_retry.receivers:
                self._signal_error(self.error)
        elif task_success.receivers:
            task_success.send(sender=self.task, result=self.value, runtime=self.runtime)
        if task_postrun.receivers:
            self._signal_end()
        if self.error is not None:
            # The frames of the traceback hold this attempt, and the exception holds the frames.
            self.error.__traceback__ = None

    def _signal_error(self, error: BaseException) -> None:
        task, request = self.task, self.request
        if isinstance(error, Retry):
            cause = error.exc or error
            info = ErrorInfo(cause, self.traceback or "")
            task_retry.send(sender=task, request=request, reason=error, einfo=info)
        elif not isinstance(error, TaskPredicate):
            signal_failure(task, request, error, self.traceback)

    def _signal_end(self) -> None:
        error, state, value = self.error, SUCCESS, self.value
        if error is not None:
            state, value = state_of(error), error
        task_postrun.send(
            sender=self.task,
            task_id=self.request.id,
            task=self.task,
            args=self.args,
            kwargs=self.kwargs,
            retval=value,
            state=state,
        )

    def _settle_error(self, error: BaseException) -> None:
        if isinstance(error, TaskPredicate):
            if isinstance(error, Retry):
                self.traceback = traceback_text(error.exc or error)
            return
        task = self.task
        if retries_for(error, task.autoretry_for, task.dont_autoretry_for):
            error = self._autoretry(error)
        self.error = error
        self.traceback = traceback_text(error.exc or error if isinstance(error, Retry) else error)

    def _autoretry(self, error: BaseException) -> BaseException:
        task = self.task
        options = dict(task.retry_kwargs or {})
        if task.retry_backoff:
            options["countdown"] = backoff(
                float(task.retry_backoff),
                self.request.retries,
                task.retry_backoff_max,
                task.retry_jitter,
            )
        if hasattr(task, "override_max_retries"):
            options["max_retries"] = task.override_max_retries
        try:
            task.retry(exc=error, **options)
        except Retry as retry:
            return retry
        except BaseException as final:
            return final
        return error

    def _hooks(self) -> None:
        task, request, error = self.task, self.request, self.error
        state, outcome = SUCCESS, self.value
        info: ErrorInfo | None = None
        try:
            if error is None:
                task.on_success(self.value, request.id, self.args, self.kwargs)
            elif isinstance(error, Ignore):
                return
            elif isinstance(error, Reject):
                state, outcome = REJECTED, error
            elif isinstance(error, Retry):
                state, outcome = RETRY, error.exc or error
                info = ErrorInfo(outcome, self.traceback or "")
                task.on_retry(outcome, request.id, self.args, self.kwargs, info)
            else:
                state, outcome = FAILURE, error
                info = ErrorInfo(error, self.traceback or "")
                task.on_failure(error, request.id, self.args, self.kwargs, info)
            task.after_return(state, outcome, request.id, self.args, self.kwargs, info)
        except Exception as broken:
            # A hook that fails makes a success a failure, as in Celery; the task's own error stays.
            logger.exception("a hook of task %s[%s] failed", task.name, request.id)
            if self.error is None:
                self.error, self.traceback = broken, traceback_text(broken)
