"""Django's own tasks, run by celeriac's workers.

TASKS = {"default": {"BACKEND": "celeriac.contrib.django.tasks.CeleriacBackend"}}, on `django.tasks`
of Django 6 and on the package `django-tasks` before it.

Beside a task's result stands a second record, its call: what was asked for, when it began, where.

Owns: CeleriacBackend, run_django_task.  May import: everything.
"""

from __future__ import annotations

import datetime as dt
import importlib
import traceback
from typing import Any

from django.core import checks
from django.utils import timezone
from django.utils.module_loading import import_string

from celeriac.client.app import shared_task
from celeriac.client.compose import ACCEPTED, OPTIONS
from celeriac.client.current import get_current_app
from celeriac.client.records import result_codec
from celeriac.contrib.django.orm import OF_DJANGO as NAME
from celeriac.contrib.django.orm import aware, stored
from celeriac.kernel import errors
from celeriac.kernel.errors import ImproperlyConfigured
from celeriac.kernel.ids import uuid
from celeriac.kernel.message import Record
from celeriac.kernel.states import RECEIVED, STARTED, SUCCESS
from celeriac.ports.registry import find_codec


def _library(part: str) -> Any:
    """Return a module of `django.tasks`, or of the package that was there before it."""
    for name in ("django.tasks", "django_tasks"):
        try:
            return importlib.import_module(f"{name}{part}")
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}{part}.".startswith(f"{error.name}."):
                raise
    return None


_base = _library(".backends.base")
_Backend: Any = object if _base is None else _base.BaseTaskBackend

_OURS = frozenset("args kwargs task_id eta countdown queue priority shadow".split())
CALL = "-call"
"""Behind an id: the record of the call."""


class CeleriacBackend(_Backend):
    """Sends Django's tasks to celeriac's queues.

    The queue "default" is the app's `task_default_queue`; any other is the queue of that name.
    OPTIONS are options of `apply_async` for every task, such as `expires` or `time_limit`.
    """

    supports_defer = True
    supports_async_task = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        if _base is None:
            raise ImproperlyConfigured(
                "CeleriacBackend needs django.tasks: Django 6, or `pip install django-tasks`"
            )
        super().__init__(alias, params)

    def check(self, **kwargs: Any) -> list[Any]:
        """Return what is wrong with OPTIONS, for `manage.py check`."""
        found = list(super().check(**kwargs))
        wrong = sorted(set(self.options) - (OPTIONS | ACCEPTED)) + sorted(set(self.options) & _OURS)
        if wrong:
            found.append(
                checks.Error(
                    f"OPTIONS of the task backend {self.alias!r} cannot have {', '.join(wrong)}",
                    hint="they are options of apply_async that do not come from the task: expires,"
                    " time_limit, headers, ...",
                    id="celeriac.E001",
                )
            )
        return found

    @property
    def supports_get_result(self) -> bool:
        """Whether the app keeps results."""
        return bool(get_current_app().keeps_results)

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Send a task; return what is known of it.

        :raises BrokerUnavailable: the broker is away for longer than the retry policy allows.
        """
        self.validate_task(task)
        app, lib = get_current_app(), _library(".base")
        result = lib.TaskResult(
            task=task,
            id=uuid(),
            status=lib.TaskResultStatus.READY,
            enqueued_at=timezone.now(),
            started_at=None,
            last_attempted_at=None,
            finished_at=None,
            args=list(args),
            kwargs=dict(kwargs),
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )
        call = _call_of(result)
        if app.keeps_results:
            _keep(app, result.id, call)
        options = dict(self.options)
        if task.run_after is not None:
            options["eta"] = aware(task.run_after)
        default = lib.DEFAULT_TASK_QUEUE_NAME
        queue = app.conf.task_default_queue if task.queue_name == default else task.queue_name
        run_django_task.apply_async(
            (call,),
            **options,
            task_id=result.id,
            queue=queue,
            # -100 .. 100, of which the middle is the middle of 0 .. 9.
            priority=(task.priority + 100) * 10 // 201,
            shadow=task.module_path,
        )
        _library(".signals").task_enqueued.send(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> Any:
        """Return what is known of a task.

        :raises TaskResultDoesNotExist: nothing, or no more.
        """
        app = get_current_app()
        found = app.results.fetch([result_id, result_id + CALL])
        called = found.get(result_id + CALL)
        if called is None:
            raise _library(".exceptions").TaskResultDoesNotExist(result_id)
        return _result(app, result_id, _meta(app, called)["result"], found.get(result_id))


def _call_of(result: Any) -> dict[str, Any]:
    task = result.task
    return {
        "task": task.module_path,
        "priority": task.priority,
        "queue_name": task.queue_name,
        "run_after": task.run_after and task.run_after.isoformat(),
        "backend": result.backend,
        "args": result.args,
        "kwargs": result.kwargs,
        "enqueued_at": result.enqueued_at.isoformat(),
        "started_at": None,
        "last_attempted_at": None,
        "worker_ids": [],
    }


def _keep(app: Any, task_id: str, call: dict[str, Any], fence: tuple[int, int] = (0, 0)) -> None:
    meta: dict[str, Any] = {
        "status": RECEIVED,
        "result": call,
        "traceback": None,
        "children": [],
        "task_id": task_id + CALL,
    }
    body = find_codec(app.conf.result_serializer).dumps(meta)
    expires = app.clock.time() + app.result_expires if app.result_expires else 0.0
    app.store([Record(task_id + CALL, RECEIVED, body, fence, expires)])


def _meta(app: Any, record: Record) -> dict[str, Any]:
    if record.body is None:
        return {"result": None}
    found: dict[str, Any] = result_codec(app).loads(record.body)
    return found


def _moment(text: str | None) -> dt.datetime | None:
    return None if text is None else stored(dt.datetime.fromisoformat(text))


def _result(app: Any, task_id: str, call: dict[str, Any], record: Record | None) -> Any:
    """Return Django's result of a call and of what became of it."""
    lib = _library(".base")
    states = lib.TaskResultStatus
    meta: dict[str, Any] = {}
    status, failures = states.READY, []
    if record is not None:
        meta = _meta(app, record)
        if record.state == SUCCESS:
            status = states.SUCCESSFUL
        elif record.state == STARTED:
            status = states.RUNNING
        elif record.state in ("FAILURE", "REVOKED"):
            status = states.FAILED
            failures = [lib.TaskError(**_error(meta))]
    elif call["started_at"]:
        status = states.RUNNING
    found = lib.TaskResult(
        task=_task(call),
        id=task_id,
        status=status,
        enqueued_at=_moment(call["enqueued_at"]),
        started_at=_moment(call["started_at"]),
        last_attempted_at=_moment(call["last_attempted_at"]),
        finished_at=_moment(meta.get("date_done")) if failures or status == "SUCCESSFUL" else None,
        args=call["args"],
        kwargs=call["kwargs"],
        backend=call["backend"],
        errors=failures,
        worker_ids=call["worker_ids"],
    )
    if status == states.SUCCESSFUL:
        object.__setattr__(found, "_return_value", meta.get("result"))
    return found


def _error(meta: dict[str, Any]) -> dict[str, str]:
    described = meta.get("result")
    described = described if isinstance(described, dict) else {}
    module = described.get("exc_module") or "builtins"
    name = described.get("exc_type") or "Exception"
    own = getattr(errors, str(name), None)
    if str(module).startswith(("celery.", "kombu.", "billiard.")) and own is not None:
        module = errors.__name__  # written as Celery's, which need not be installed
    return {
        "exception_class_path": f"{module}.{name}",
        "traceback": str(meta.get("traceback") or ""),
    }


def _task(call: dict[str, Any]) -> Any:
    return import_string(call["task"]).using(
        priority=call["priority"],
        queue_name=call["queue_name"],
        run_after=_moment(call["run_after"]),
        backend=call["backend"],
    )


@shared_task(name=NAME, bind=True, track_started=True)
def run_django_task(self: Any, call: dict[str, Any]) -> Any:
    """Run one of Django's tasks in a worker, and tell Django's signals."""
    app, request, signals = self.app, self.request, _library(".signals")
    now = timezone.now().isoformat()
    call = {
        **call,
        "started_at": call["started_at"] or now,
        "last_attempted_at": now,
        "worker_ids": [*call["worker_ids"], *[str(request.hostname)] * request.handed_out],
    }
    if app.keeps_results:
        _keep(app, request.id, call, (request.retries, request.handed_out))
    lib = _library(".base")
    result = _result(app, request.id, call, None)
    task, sender = result.task, type(result.task.get_backend())
    signals.task_started.send(sender, task_result=result)
    context = [lib.TaskContext(task_result=result)] if task.takes_context else []
    try:
        value = task.call(*context, *result.args, **result.kwargs)
        find_codec(app.conf.result_serializer).dumps(value)
    except Exception as error:
        _end(result, lib.TaskResultStatus.FAILED, error)
        signals.task_finished.send(sender, task_result=result)
        raise
    object.__setattr__(result, "_return_value", value)
    _end(result, lib.TaskResultStatus.SUCCESSFUL, None)
    signals.task_finished.send(sender, task_result=result)
    return value


def _end(result: Any, status: Any, error: BaseException | None) -> None:
    object.__setattr__(result, "status", status)
    object.__setattr__(result, "finished_at", timezone.now())
    if error is not None:
        kind = type(error)
        text = "".join(traceback.format_exception(error))
        path = f"{kind.__module__}.{kind.__qualname__}"
        result.errors.append(_library(".base").TaskError(exception_class_path=path, traceback=text))
