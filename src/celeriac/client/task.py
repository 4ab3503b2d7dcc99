"""Task: a function that can be sent.

Owns: Task, AsyncTask.  May import: kernel, client.
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, ParamSpec, TypeVar, cast

from celeriac.client.compose import compose
from celeriac.client.context import Context, direct_context
from celeriac.client.current import get_current_app, get_current_request
from celeriac.client.eager import EagerResult, apply_eagerly
from celeriac.client.records import make_record
from celeriac.client.result import AsyncResult
from celeriac.client.workflow import added_to_chord
from celeriac.kernel.errors import (
    ImproperlyConfigured,
    MaxRetriesExceededError,
    Replaced,
    Retry,
)
from celeriac.kernel.events import event
from celeriac.kernel.lifecycle import Policy
from celeriac.kernel.maps import chunks, xmap, xstarmap
from celeriac.kernel.signature import Signature, maybe_signature

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

P = ParamSpec("P")
R = TypeVar("R")

_FROM_CONF = {
    "serializer": "task_serializer",
    "acks_late": "task_acks_late",
    "track_started": "task_track_started",
    "ignore_result": "task_ignore_result",
    "store_errors_even_if_ignored": "task_store_errors_even_if_ignored",
    "rate_limit": "task_default_rate_limit",
    "reject_on_worker_lost": "task_reject_on_worker_lost",
    "priority": "task_default_priority",
    "time_limit": "task_time_limit",
    "soft_time_limit": "task_soft_time_limit",
}


class Task(Generic[P, R]):
    """A function that workers run.  Made by `app.task`; subclass it for `base=`."""

    name: str = ""
    abstract: ClassVar[bool] = True
    typing: bool = True
    max_retries: int | None = 3
    default_retry_delay: float = 180
    autoretry_for: Sequence[type[BaseException]] = ()
    dont_autoretry_for: Sequence[type[BaseException]] = ()
    retry_kwargs: Mapping[str, Any] | None = None
    retry_backoff: bool | float = False
    retry_backoff_max: float = 600
    retry_jitter: bool = True
    throws: Sequence[type[BaseException]] = ()
    serializer: str | None = None
    compression: str | None = None
    queue: str | None = None
    routing_key: str | None = None
    exchange: str | None = None
    priority: int | None = None
    expires: float | datetime | None = None
    rate_limit: str | float | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    ignore_result: bool | None = None
    store_errors_even_if_ignored: bool | None = None
    store_eager_result: bool | None = None
    track_started: bool | None = None
    acks_late: bool | None = None
    acks_on_failure: bool | None = None
    acks_on_timeout: bool | None = None
    acks_on_failure_or_timeout: bool | None = None
    reject_on_worker_lost: bool | None = None
    send_events: bool = True
    trail: bool = True
    max_deliveries: int | None = None
    """How often it may be handed out without an outcome; `task_max_deliveries` where None."""
    resultrepr_maxsize: int = 1024

    _app: Celeriac | None = None
    _plan: Any = None
    _check: Callable[..., Any] | None = None
    hooks_start = False
    """`before_start` is overridden; looked up once per class."""
    hooks_end = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.hooks_start = cls.before_start is not Task.before_start
        cls.hooks_end = any(
            getattr(cls, hook) is not getattr(Task, hook)
            for hook in ("on_success", "on_failure", "on_retry", "after_return")
        )

    # -- what a subclass may define -------------------------------------------------------------

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Do the work; defined by the decorated function or by a subclass."""
        raise NotImplementedError(f"task {self.name or type(self).__name__} has no run()")

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Called in the worker before the task runs."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Called in the worker when the task returned."""

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called in the worker when the task failed for good."""

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called in the worker when the task is to be run again."""

    def after_return(
        self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        """Called in the worker after any of the three."""

    def shadow_name(self, args: Any, kwargs: Any, options: Any) -> str | None:
        """Return a name to show instead of the task's for this call, or None."""
        return None

    @classmethod
    def on_bound(cls, app: Celeriac) -> None:
        """Called when the task becomes an app's."""

    # -- the app --------------------------------------------------------------------------------

    @property
    def app(self) -> Celeriac:
        """The app that the task belongs to; the current one for a shared task."""
        return self._app if self._app is not None else get_current_app()

    def bind(self, app: Celeriac) -> Task[P, R]:
        """Return this task as one of `app`'s."""
        # Not copy.copy: a task is pickled, and so copied, by its name.
        bound = object.__new__(type(self))
        bound.__dict__.update(self.__dict__)
        bound._app = app
        bound._plan = None
        bound.on_bound(app)
        return bound

    @property
    def backend(self) -> Any:
        """The result store of the task's app."""
        return self.app.backend

    @property
    def signal_key(self) -> str:
        """What signals tell it apart by as a sender: its name, whichever app it is bound to."""
        return self.name

    def setting(self, name: str) -> Any:
        """Return an attribute of the task, or the setting that stands in for it where it is None."""
        value = getattr(self, name)
        if value is None and name in _FROM_CONF:
            value = getattr(self.app.conf, _FROM_CONF[name])
        return value

    def policy(self) -> Policy:
        """Return what the task says of its failures, settings included."""
        conf = self.app.conf
        either = self.acks_on_failure_or_timeout
        if either is None:
            either = conf.task_acks_on_failure_or_timeout
        late = self.setting("acks_late")
        lost = self.setting("reject_on_worker_lost")
        return Policy(
            max_deliveries=self.max_deliveries or conf.task_max_deliveries,
            acks_late=late,
            acks_on_failure=_first(self.acks_on_failure, conf.task_acks_on_failure, either),
            acks_on_timeout=_first(self.acks_on_timeout, conf.task_acks_on_timeout, either),
            reject_on_worker_lost=True if lost is None else lost,
        )

    # -- calling --------------------------------------------------------------------------------

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function here, in this process."""
        return cast("R", self.run(*args, **kwargs))

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function as a worker does: through an overridden `__call__`, else straight."""
        if type(self).__call__ is Task.__call__:
            return self.run(*args, **kwargs)
        return self(*args, **kwargs)

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Send the task; return the result to come.

        :raises TypeError: the arguments do not fit the function.
        :raises BrokerUnavailable: the broker is away for longer than the retry policy allows.
        """
        return self.apply_async(args, kwargs)

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """As `delay`, without blocking the event loop."""
        return await self.aapply_async(args, kwargs)

    async def aapply_async(
        self, args: Any = None, kwargs: Any = None, **options: Any
    ) -> AsyncResult[R]:
        """As `apply_async`, without blocking the event loop.

        What many coroutines send at a time goes to the broker together.
        """
        app = self.app
        own = type(self).apply_async is Task.apply_async
        if app.conf.task_always_eager or not own or "retry_policy" in options:
            # It runs the task here, or does who knows what: not on the loop.
            return await app.in_thread(self.apply_async, args, kwargs, **options)
        return await app.send_with(lambda: self.apply_async(args, kwargs, **options))

    def apply_async(
        self,
        args: Any = None,
        kwargs: Any = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        *,
        countdown: float | None = None,
        eta: datetime | None = None,
        expires: float | timedelta | datetime | None = None,
        queue: str | None = None,
        priority: int | None = None,
        retry: bool | None = None,
        retry_policy: Mapping[str, Any] | None = None,
        headers: Mapping[str, Any] | None = None,
        serializer: str | None = None,
        compression: str | None = None,
        ignore_result: bool | None = None,
        time_limit: float | None = None,
        soft_time_limit: float | None = None,
        **options: Any,
    ) -> AsyncResult[R]:
        """Send the task with options; return the result to come.

        :param countdown: seconds to wait; `eta` instead names the moment.
        :param expires: seconds, or the moment, after which it must not begin.
        :param priority: 0 .. 9, 9 first.
        :param link: signatures called with the result; `link_error` with a failure.
        :param options: see Celery's `apply_async`; an unknown one is an error.
        :raises TypeError: the arguments do not fit the function, or an option is unknown.
        :raises EncodeError: an argument cannot be carried.
        :raises BrokerUnavailable: the broker is away for longer than the retry policy allows.
        """
        args = args if args is not None else ()
        kwargs = kwargs if kwargs is not None else {}
        if isinstance(args, str) or not isinstance(args, (tuple, list)):
            args = _as_args(args)
        if self.typing and self._check is not None:
            self._check(*args, **kwargs)
        app = self._app if self._app is not None else get_current_app()
        given = (
            ("task_id", task_id),
            ("link", link),
            ("link_error", link_error),
            ("shadow", shadow),
            ("countdown", countdown),
            ("eta", eta),
            ("expires", expires),
            ("queue", queue),
            ("priority", priority),
            ("headers", headers),
            ("serializer", serializer),
            ("compression", compression),
            ("ignore_result", ignore_result),
            ("time_limit", time_limit),
            ("soft_time_limit", soft_time_limit),
        )
        options.update({name: value for name, value in given if value is not None})
        if self.pydantic_dump is not None:
            args, kwargs = self.pydantic_dump(args, kwargs)
        if type(self).shadow_name is not Task.shadow_name and shadow is None:
            options["shadow"] = self.shadow_name(args, kwargs, options)
        if app.conf.task_always_eager:
            return cast("AsyncResult[R]", self._apply_always_eager(app, args, kwargs, options))
        envelope, head = compose(app, self.name, args, kwargs, options, self)
        app.publish(envelope, retry, retry_policy)
        return app.sent(
            envelope, head, self.name, options.get("add_to_parent", True) and self.trail
        )

    pydantic_dump: Callable[[Any, Any], tuple[Any, Any]] | None = None

    def _apply_always_eager(
        self, app: Celeriac, args: Any, kwargs: Any, options: dict[str, Any]
    ) -> EagerResult[Any]:
        eager = apply_eagerly(
            app,
            self,
            args,
            kwargs,
            options,
            throw=app.conf.task_eager_propagates,
            store=_first(self.store_eager_result, app.conf.task_store_eager_result),
        )
        return eager

    def apply(
        self,
        args: Any = None,
        kwargs: Any = None,
        link: Any = None,
        link_error: Any = None,
        task_id: str | None = None,
        retries: int = 0,
        throw: bool | None = None,
        **options: Any,
    ) -> EagerResult[R]:
        """Run the task here, as a worker would, and return its result.

        :param throw: raise what the task raises; `task_eager_propagates` where None.
        """
        app = self.app
        options.update(task_id=task_id, link=link, link_error=link_error)
        return apply_eagerly(
            app,
            self,
            args if args is not None else (),
            kwargs if kwargs is not None else {},
            options,
            throw=app.conf.task_eager_propagates if throw is None else throw,
            retries=retries,
        )

    # -- inside the task ------------------------------------------------------------------------

    @property
    def request(self) -> Context:
        """The request of the run that this context is in; that of a direct call elsewhere."""
        found = get_current_request()
        return found if found is not None else direct_context(self.name)

    def retry(
        self,
        args: Any = None,
        kwargs: Any = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """Run the task again later: raises Retry, which ends this run.

        :param exc: what to raise when there are no retries left.
        :param throw: False returns instead of raising; the retry is made when the task ends.
        :param countdown: seconds to wait; `default_retry_delay` where neither it nor `eta` is given.
        :param max_retries: instead of the task's own.
        :param options: options of `apply_async` for the next run.
        :raises Retry: always, but for `throw=False`.
        :raises MaxRetriesExceededError: there are none left, and no `exc` is at hand.
        """
        if args is not None and not isinstance(args, (tuple, list)):
            args = _as_args(args)
        request = self.request
        limit = self.max_retries if max_retries is None else max_retries
        handled = exc if exc is not None else sys.exception()
        if request.called_directly:
            _raise(exc, handled, Retry("Task can be retried", None))
        if countdown is None and eta is None:
            countdown = self.default_retry_delay
        if limit is not None and request.retries >= limit:
            _raise(
                exc,
                handled,
                MaxRetriesExceededError(
                    f"Can't retry {self.name}[{request.id}] args:{request.args!r:.200} "
                    f"kwargs:{request.kwargs!r:.200}",
                    task_args=request.args,
                    task_kwargs=request.kwargs,
                ),
            )
        if eta is not None and eta.tzinfo is None:
            eta = eta.replace(tzinfo=self.app.timezone)
        changes = {"args": args, "kwargs": kwargs, "options": options}
        changed = args is not None or kwargs is not None or bool(options)
        ret = Retry(
            exc=handled,
            when=eta if eta is not None else countdown,
            is_eager=request.is_eager,
            sig=changes if changed else None,
        )
        if throw:
            raise ret
        request.retry_asked = ret
        return ret

    def update_state(
        self, task_id: str | None = None, state: str | None = None, meta: Any = None, **kwargs: Any
    ) -> None:
        """Store a state of the task that runs, or of `task_id`; any string is a state.

        :param meta: what `AsyncResult.info` gives; must be encodable.
        """
        request = self.request
        if state is None:
            raise TypeError("update_state() needs a state")
        if task_id is not None and task_id != request.id:
            request = copy.copy(request)
            request.id = task_id
        if request.id is None:
            raise RuntimeError("update_state() outside of a running task needs a task_id")
        record = make_record(self.app, request, state, meta)
        note = request.note
        if note is not None:
            note([record])
        else:
            self.app.store([record])

    def send_event(
        self,
        type_: str,
        retry: bool = True,
        retry_policy: Any = None,
        **fields: Any,
    ) -> None:
        """Send an event about the task that runs, e.g. `self.send_event("task-progress", done=3)`.

        :param retry: accepted, as `retry_policy` is: events are sent in the background.
        """
        app = self.app
        app.tell([event(type_, app.clock.time(), {"uuid": self.request.id, **fields})])

    def AsyncResult(self, task_id: str, **kwargs: Any) -> AsyncResult[R]:  # noqa: N802
        """Return the result of a task id."""
        return self.app.AsyncResult(task_id)

    def replace(self, sig: Any) -> Any:
        """Run `sig` in this task's place: it gets the id, the links and all that follows.

        :raises Replaced: always, an `Ignore`; a task that runs in place returns the result instead.
        :raises ImproperlyConfigured: `sig` is empty, or a part of a chord.
        """
        sig = maybe_signature(sig, app=self._app)
        if "chord" in sig.options:
            raise ImproperlyConfigured(
                "the signature that replaces a task must not be a part of a chord"
            )
        if sig.subtask_type == "chain" and not sig.tasks:
            raise ImproperlyConfigured("an empty chain cannot replace a task")
        return self.on_replace(sig)

    def on_replace(self, sig: Any) -> Any:
        """Replace the task; called by `replace`, may be overridden to change `sig` before."""
        request = self.request
        if request.is_eager or request.called_directly:
            return sig.apply().get()
        raise Replaced(sig)

    def add_to_chord(self, sig: Any, lazy: bool = False) -> Any:
        """Add `sig` to the header of the chord that waits for this task; send it.

        :param lazy: return it instead, for `delay()`.
        :raises ValueError: no chord waits for it.
        """
        sig = maybe_signature(sig, app=self._app)
        sig["options"].update(added_to_chord(self.app, self.request, sig["options"]))
        return sig if lazy else sig.delay()

    # -- signatures -----------------------------------------------------------------------------

    def signature(self, args: Any = None, *starargs: Any, **starkwargs: Any) -> Signature:
        """Return a signature; `args`, `kwargs` and options as `Signature` takes them."""
        starkwargs.setdefault("app", self.app)
        return Signature(self, args, *starargs, **starkwargs)

    subtask = signature

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """Return a signature with these arguments; what is missing may come when it is called."""
        return Signature(self.name, args, kwargs, app=self.app)

    def si(self, *args: Any, **kwargs: Any) -> Signature:
        """Return a signature that ignores what it is called with."""
        return Signature(self.name, args, kwargs, immutable=True, app=self.app)

    def chunks(self, it: Any, n: int) -> chunks:
        """Return a group of starmaps, each over `n` of the arguments in `it`."""
        return chunks(self.s(), it, n, app=self.app)

    def map(self, it: Any) -> xmap:
        """Return a signature that runs the task for each of `it`, as one task."""
        return xmap(self.s(), it, app=self.app)

    def starmap(self, it: Any) -> xstarmap:
        """Return a signature that runs the task with each of `it` as its arguments, as one task."""
        return xstarmap(self.s(), it, app=self.app)

    def __repr__(self) -> str:
        app = self._app.main if self._app is not None else "shared"
        return f"<@task: {self.name} of {app}>"

    def __reduce__(self) -> Any:
        return _task_of, (self.name,)


class AsyncTask(Task[P, R]):
    """A task whose function is `async def`: only its type differs."""

    if TYPE_CHECKING:

        def __call__(  # type: ignore[override]
            self, *args: P.args, **kwargs: P.kwargs
        ) -> Coroutine[Any, Any, R]:
            """Call the function here, in this process."""
            ...


def _task_of(name: str) -> Any:
    return get_current_app().tasks[name]


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _as_args(value: Any) -> tuple[Any, ...]:
    if isinstance(value, (str, bytes)):
        raise TypeError(f"task args must be a list or tuple, not {value!r:.100}")
    try:
        return tuple(value)
    except TypeError:
        raise TypeError(f"task args must be a list or tuple, not {value!r:.100}") from None


def _raise(
    exc: BaseException | None, handled: BaseException | None, otherwise: BaseException
) -> NoReturn:
    error = exc if exc is not None else otherwise
    raise error from (handled if handled is not error else None)


def arguments_checker(function: Callable[..., Any], *, bound: bool) -> Callable[..., Any] | None:
    """Return a function with `function`'s parameters and no body: calling it checks arguments.

    Python's own binding is one call; `inspect.Signature.bind` would be about twenty.

    :param bound: leave the first parameter (`self`) out.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    parameters = parameters[1:] if bound else parameters
    parts, seen_only = [], False
    for index, parameter in enumerate(parameters):
        kind = parameter.kind
        if kind is parameter.VAR_POSITIONAL:
            parts.append(f"*{parameter.name}")
            seen_only = True
            continue
        if kind is parameter.VAR_KEYWORD:
            parts.append(f"**{parameter.name}")
            continue
        if kind is parameter.KEYWORD_ONLY and not seen_only:
            parts.append("*")
            seen_only = True
        default = "" if parameter.default is parameter.empty else "=None"
        parts.append(parameter.name + default)
        following = parameters[index + 1].kind if index + 1 < len(parameters) else None
        if kind is parameter.POSITIONAL_ONLY and following is not parameter.POSITIONAL_ONLY:
            parts.append("/")
    name = function.__name__ if function.__name__.isidentifier() else "task"
    scope: dict[str, Any] = {}
    try:
        exec(f"def {name}({', '.join(parts)}): pass", scope)  # noqa: S102 - names are checked by def
    except SyntaxError as error:
        raise ImproperlyConfigured(
            f"the parameters of task {name} cannot be read: {error}"
        ) from error
    checker: Callable[..., Any] = scope[name]
    return checker
