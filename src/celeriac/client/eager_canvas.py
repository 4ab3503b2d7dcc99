"""Workflows run in place: `apply()` of a chain, a group or a chord, and `task_always_eager`.

Owns: apply_canvas.  May import: kernel, client.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from celeriac.client.eager import EagerResult
from celeriac.client.result import allow_join_result
from celeriac.kernel.ids import uuid
from celeriac.kernel.signature import Signature, as_list, maybe_signature
from celeriac.kernel.states import IGNORED, REJECTED

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

_NOT_PASSED = (
    "task_id group_id group_index root_id parent_id max_concurrency on_error add_to_parent chord"
).split()


def apply_canvas(
    app: Celeriac, sig: Signature, args: Any, kwargs: Any, options: Mapping[str, Any]
) -> Any:
    """Run a workflow here and return the result of its end.

    :raises Exception: that of a task whose result another one was waiting for, as in Celery.
    """
    args, kwargs = tuple(args or ()), dict(kwargs or {})
    merged = {**sig["options"], **options}
    task_id = options.get("task_id")
    passed = {k: v for k, v in merged.items() if k not in _NOT_PASSED}
    with allow_join_result():
        match sig["subtask_type"]:
            case "chain":
                return _chain(app, sig, args, kwargs, passed, task_id)
            case "group":
                return _group(app, sig, args, kwargs, passed, task_id)
            case "chord":
                return _chord(app, sig, args, kwargs, {**passed, **_collect(merged)}, task_id)
    return apply_canvas(app, sig.group(), args, kwargs, options)  # type: ignore[attr-defined]


def _collect(options: Mapping[str, Any]) -> dict[str, Any]:
    return {"on_error": options["on_error"]} if "on_error" in options else {}


def _own_args(sig: Signature, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(sig["args"]) if sig["immutable"] else (*args, *sig["args"])


def _chain(
    app: Celeriac,
    sig: Signature,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: dict[str, Any],
    task_id: str | None,
) -> Any:
    tasks = [maybe_signature(task, app=app) for task in sig["kwargs"]["tasks"]]
    full = [task for task in tasks if not _is_empty(task)]
    tasks = full or tasks[-1:]
    link = as_list(options.pop("link", None))
    errbacks = as_list(options.pop("link_error", None))
    args = _own_args(sig, args)
    last: Any = None
    for task in tasks:
        step = task.clone()
        for errback in errbacks:
            step.link_error(errback)
        ends = task is tasks[-1]
        for callback in link if ends else ():
            step.link(callback)
        if last is not None:
            args, kwargs = (last.get(),), {}
        own = {"task_id": task_id} if ends and task_id else {}
        result = step.apply(args, kwargs, **({} if last is not None else options), **own)
        _first(result).parent = last
        last = result
        if isinstance(result, EagerResult) and result.state in (IGNORED, REJECTED):
            break
    return last


def _first(result: Any) -> Any:
    """Return the first result of a branch, the one without a parent."""
    while result.parent is not None:
        result = result.parent
    return result


def _is_empty(task: Signature) -> bool:
    kind = task["subtask_type"]
    if kind not in ("group", "chain"):
        return False
    return not any(not _is_empty(maybe_signature(inner)) for inner in task["kwargs"]["tasks"])


def _group(
    app: Celeriac,
    sig: Signature,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: dict[str, Any],
    task_id: str | None,
) -> Any:
    gid = task_id or sig["options"].get("task_id") or uuid()
    args = _own_args(sig, args)
    parts = [part for part in _flat(app, sig["kwargs"]["tasks"]) if not _is_empty(part)]
    results = [
        part.clone().apply(args, kwargs, **{"group_id": gid, "group_index": index, **options})
        for index, part in enumerate(parts)
    ]
    if (
        len(results) == 1
        and not isinstance(results[0], EagerResult)
        and hasattr(results[0], "results")
    ):
        return results[0]
    return app.GroupResult(gid, results)


def _flat(app: Celeriac, tasks: Any) -> list[Signature]:
    found: list[Signature] = []
    for task in tasks:
        task = maybe_signature(task, app=app)
        if task["subtask_type"] == "chunks":
            task = task.group()
        if task["subtask_type"] == "group":
            found += _flat(app, task["kwargs"]["tasks"])
        else:
            found.append(task)
    return found


def _chord(
    app: Celeriac,
    sig: Signature,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: dict[str, Any],
    task_id: str | None,
) -> Any:
    body = kwargs.pop("body", None) or sig["kwargs"].get("body")
    collect = options.pop("on_error", None) == "collect"
    links = {key: as_list(options.pop(key, None)) for key in ("link", "link_error")}
    header: Any = sig
    gid = sig["options"].get("task_id") or uuid()
    args = _own_args(sig, args)
    tasks = _flat(app, header["kwargs"]["header"])
    kwargs = {**(sig["kwargs"].get("kwargs") or {}), **kwargs}
    results = [
        task.clone().apply(args, kwargs, **{"group_id": gid, "group_index": index, **options})
        for index, task in enumerate(task for task in tasks if not _is_empty(task))
    ]
    members = app.GroupResult(gid, results)
    values = [result.get(propagate=not collect) for result in results]
    if body is None or _is_empty(maybe_signature(body)):
        result: Any = EagerResult(gid, values, "SUCCESS", app=app)
    else:
        step = maybe_signature(body, app=app).clone()
        for key, values_of in links.items():
            for link in values_of:
                step.append_to_list_option(key, link)
        own = {"task_id": task_id} if task_id else {}
        result = step.apply((values,), **own)
    _first(result).parent = members
    return result
