"""Tasks run in place: `apply()` and `task_always_eager`, with retries and links.

Arguments and results are passed as they are, as in Celery; `celeriac.testing` goes the whole way
through serializer and queue instead.

Owns: EagerResult, apply_eagerly.  May import: kernel, client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from celeriac.client.attempt import Attempt
from celeriac.client.compose import _embed, _times, check_limits
from celeriac.client.context import Context
from celeriac.client.current import get_current_request
from celeriac.client.errbacks import call_errback, takes_three
from celeriac.client.records import make_record
from celeriac.client.result import AsyncResult
from celeriac.kernel.errors import Ignore, Reject, Retry
from celeriac.kernel.ids import uuid
from celeriac.kernel.message import Envelope
from celeriac.kernel.signature import as_list
from celeriac.kernel.states import (
    FAILURE,
    IGNORED,
    PENDING,
    PROPAGATE_STATES,
    REJECTED,
    REVOKED,
    SUCCESS,
)
from celeriac.kernel.wire import Headers

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

R = TypeVar("R")


def run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end, also where a loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(asyncio.run, coroutine).result()


class EagerResult(AsyncResult[R], Generic[R]):
    """The result of a task that was run in place."""

    _stored = False

    def __init__(
        self,
        id: str,  # noqa: A002 - Celery's name
        ret_value: Any,
        state: str,
        traceback: str | None = None,
        name: str | None = None,
        app: Celeriac | None = None,
    ) -> None:
        super().__init__(id, app=app, task_name=name)
        self._meta = {
            "status": state,
            "result": ret_value,
            "traceback": traceback,
            "children": [],
            "name": name,
        }

    def _read(self) -> dict[str, Any]:
        return cast("dict[str, Any]", self._meta)

    def ready(self) -> bool:
        """Return True: it has ended."""
        return True

    def get(  # type: ignore[override]
        self, timeout: float | None = None, propagate: bool = True, **kwargs: Any
    ) -> R:
        """Return the value, or raise the task's exception with `propagate`."""
        if propagate:
            value = self.result
            if self.state in PROPAGATE_STATES:
                raise value if isinstance(value, BaseException) else Exception(value)
        return cast("R", self.result)

    wait = get  # type: ignore[assignment]

    async def aget(self, timeout: float | None = None, propagate: bool = True) -> R:
        """As `get`."""
        return self.get(timeout, propagate)

    def forget(self) -> None:
        """Do nothing: it is stored nowhere."""

    def revoke(self, *args: Any, **kwargs: Any) -> None:
        """Mark it revoked: it has run."""
        cast("dict[str, Any]", self._meta)["status"] = REVOKED

    def __repr__(self) -> str:
        return f"<EagerResult: {self.id}>"


def apply_eagerly(
    app: Celeriac,
    task: Any,
    args: Any,
    kwargs: Any,
    options: dict[str, Any],
    *,
    throw: bool,
    retries: int = 0,
    store: bool = False,
) -> EagerResult[Any]:
    """Run a task here as a worker would, retries at once, and return its result.

    :param throw: raise what the task raises.
    :param store: write the result to the store.
    """
    check_limits(options.get("time_limit"), options.get("soft_time_limit"))
    task_id = options.get("task_id") or uuid()
    head = Headers(task.name, task_id)
    head.origin = app.origin
    head.extra = dict(options.get("headers") or {})
    names = options.get("stamped_headers")
    if names:
        head.stamped_headers = list(names)
        head.stamps = {name: options[name] for name in names if name in options}
    head.group, head.group_index = options.get("group_id"), options.get("group_index")
    parent = get_current_request()
    if parent is not None and not parent.called_directly:
        head.root_id, head.parent_id = parent.root_id, parent.id
    not_before, expires_at = _times(app, options)
    queue = options.get("queue") or app.conf.task_default_queue
    envelope = Envelope(
        task_id, queue, b"", options.get("priority") or 0, not_before, expires_at, retries
    )
    args = tuple(args)
    while True:
        request = Context(head, envelope, args, kwargs, _embed(options))
        request.is_eager = True
        request.hostname = app.origin.partition("@")[2]
        attempt = Attempt(task, request, run_coroutine).run()
        error = attempt.error
        if not isinstance(error, Retry):
            break
        changes = error.sig or {}
        args = tuple(changes["args"]) if changes.get("args") is not None else args
        kwargs = changes["kwargs"] if changes.get("kwargs") is not None else kwargs
        envelope.attempt += 1
    state, value = _state(error), attempt.value if error is None else error
    if throw and state == FAILURE and error is not None:
        raise error
    if isinstance(error, (Ignore, Reject)):
        value = None
    if store and state not in (IGNORED, REJECTED, PENDING):
        app.store([make_record(app, request, state, value, attempt.traceback)])
    result: EagerResult[Any] = EagerResult(task_id, value, state, attempt.traceback, task.name, app)
    _follow(app, options, result, request, error)
    return result


def _state(error: BaseException | None) -> str:
    if error is None:
        return SUCCESS
    if isinstance(error, Ignore):
        return IGNORED
    if isinstance(error, Reject):
        return REJECTED
    return FAILURE


def _follow(
    app: Celeriac,
    options: dict[str, Any],
    result: EagerResult[Any],
    request: Context,
    error: BaseException | None,
) -> None:
    if error is None:
        for link in as_list(options.get("link")):
            app.signature(link).apply((result.result,))
    if error is None or result.state != FAILURE:
        return
    for link in as_list(options.get("link_error")):
        task = app.tasks.get(link["task"])
        if task is not None and takes_three(task, link):
            call_errback(task, link, request, error, result.traceback)
        else:
            app.signature(link).apply((result.id,))
