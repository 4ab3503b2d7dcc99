"""What a workflow is sent as: a list of steps made of plain mappings.

`expand` makes steps of any signature: a task, a chord (a header and one task as its body), or, as
the last one only, a group.  A group that something follows is a chord by then.

Owns: Step, expand, override, number, ids_of, to_wire, from_wire.  Pure: ids come in.
May import: kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from celeriac.kernel.ids import child_id
from celeriac.kernel.parts import Parts
from celeriac.kernel.signature import Signature, as_list

Step = dict[str, Any]
NewId = Callable[[], str]

GATHER = "celery.accumulate"
"""The task that is the body of a chord whose own body is no single task."""

_ENDS = frozenset(("link", "link_error", "task_id", "group_id", "group_index", "chord"))
_SHAPE = frozenset(("max_concurrency", "on_error", "parent_id", "root_id", "args", "immutable"))
_DELAYS = frozenset(("countdown", "eta"))


# -- expanding ----------------------------------------------------------------------------------


def expand(sig: Mapping[str, Any], *, shared: bool = False) -> list[Step]:
    """Return the steps of a signature.

    :param shared: keep its very options, so that ids given to the steps are given to it.
    """
    steps: list[Step] = []
    for step in _steps(sig, shared):
        _append(steps, step)
    return _ended(steps)


def _ended(steps: list[Step]) -> list[Step]:
    end = steps[-1] if steps else None
    if end is not None and end["subtask_type"] == "chord" and end["kwargs"]["body"] is None:
        end["kwargs"]["body"] = gathering(None)
    return steps


def _steps(sig: Mapping[str, Any], shared: bool) -> list[Step]:
    kind = sig.get("subtask_type")
    if kind == "chain":
        return _chain_steps(sig, shared)
    if kind == "group":
        return [_group_step(sig, shared)]
    if kind == "chord":
        return _chord_steps(sig, shared)
    if kind == "chunks":
        made: Any = sig if isinstance(sig, Signature) else Signature.from_dict(sig)
        return [_group_step(made.group(), shared)]
    return [_task_step(sig, shared)]


def _task_step(sig: Mapping[str, Any], shared: bool) -> Step:
    kwargs = dict(sig.get("kwargs") or {})
    if isinstance(kwargs.get("it"), Parts):
        kwargs["it"] = kwargs["it"].all()
    return {
        "task": sig["task"],
        "args": list(sig.get("args") or ()),
        "kwargs": kwargs,
        "options": _options(sig, shared),
        "subtask_type": None,
        "immutable": bool(sig.get("immutable")),
    }


def _options(sig: Mapping[str, Any], shared: bool) -> dict[str, Any]:
    options: dict[str, Any] | None = sig.get("options")
    if options is None:
        return {}
    return options if shared else dict(options)


def _chain_steps(sig: Mapping[str, Any], shared: bool) -> list[Step]:
    steps: list[Step] = []
    for task in sig["kwargs"]["tasks"]:
        for step in _steps(task, shared):
            _append(steps, step)
    if sig.get("args") and steps and not sig.get("immutable"):
        steps[0] = with_arguments(steps[0], tuple(sig["args"]), {})
    own = {k: v for k, v in (sig.get("options") or {}).items() if k not in _SHAPE}
    if shared:
        own = {k: v for k, v in own.items() if k == "task_id"}
    if own:
        override(steps, own)
    return steps


def _group_step(sig: Mapping[str, Any], shared: bool) -> Step:
    options = _options(sig, shared)
    tasks = sig["kwargs"]["tasks"]
    own = {k: v for k, v in options.items() if k not in _SHAPE and k not in _ENDS}
    if isinstance(tasks, Parts) and not tasks.listed and not shared:
        parts: Any = Parts(_streamed(tasks, own))
    else:
        parts = list(_branches(tasks, own, shared))
    step = {
        "task": "celery.group",
        "args": list(sig.get("args") or ()),
        "kwargs": {"tasks": parts, **_partial(sig)},
        "options": options if shared else _shape(options),
        "subtask_type": "group",
        "immutable": False,
    }
    return step


def _partial(sig: Mapping[str, Any]) -> dict[str, Any]:
    found = sig["kwargs"].get("partial")
    return {"partial": found} if found else {}


def _shape(options: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("task_id", "max_concurrency", "on_error", "group_id", "group_index", "root_id")
    return {name: options[name] for name in kept if options.get(name) is not None}


def _branches(tasks: Iterable[Any], own: Mapping[str, Any], shared: bool) -> Iterator[list[Step]]:
    """Return the branches of a group: a group in it is as if its tasks stood there."""
    for task in tasks:
        if task.get("subtask_type") in ("group", "chunks"):
            inner: Any = task
            if task["subtask_type"] == "chunks":
                made: Any = task if isinstance(task, Signature) else Signature.from_dict(task)
                inner = made.group()
            yield from _branches(inner["kwargs"]["tasks"], own, shared)
            continue
        steps = expand(task, shared=shared)
        if not steps:
            continue
        if own and not shared:
            override(steps, own)
        yield steps


def _streamed(tasks: Parts, own: Mapping[str, Any]) -> Iterator[list[Step]]:
    yield from _branches(tasks.stream(), own, shared=False)


def _chord_steps(sig: Mapping[str, Any], shared: bool) -> list[Step]:
    options = _options(sig, shared)
    held = sig["kwargs"]
    header = held["header"]
    group_options: dict[str, Any] = {}
    if isinstance(header, Mapping):
        group_options = header.get("options") or {}
        header = header["kwargs"]["tasks"]
    own = {k: v for k, v in options.items() if k not in _SHAPE and k not in _ENDS}
    if isinstance(header, Parts) and not header.listed and not shared:
        parts: Any = Parts(_streamed(header, own))
    else:
        parts = list(_branches(header, own, shared))
    held_options = options if shared else {**_shape(options), **_shape(group_options)}
    step: Step = {
        "task": "celery.chord",
        "args": list(sig.get("args") or ()),
        "kwargs": {
            "header": parts,
            "body": None,
            "kwargs": held.get("kwargs") or {},
            **_partial(sig),
        },
        "options": held_options,
        "subtask_type": "chord",
        "immutable": False,
    }
    body = held.get("body")
    rest = _steps(body, shared) if body is not None else []
    if not shared:
        override(rest, {k: v for k, v in own.items() if k not in _DELAYS})
        links = {k: options[k] for k in ("link", "link_error") if options.get(k)}
        override(rest, links)
    steps = [step]
    for one in rest:
        _append(steps, one)
    if body is not None:
        _ended(steps)
    return steps


def gathering(following: Step | None) -> Step:
    """Return the task that takes a chord's results where no single task does.

    It fails where the header did; the errbacks of the group behind it are called by it then.
    """
    options: dict[str, Any] = {}
    errbacks: list[Any] = []
    if following is not None and following["subtask_type"] == "group":
        parts = following["kwargs"]["tasks"]
        for steps in parts if isinstance(parts, list) else ():
            for errback in as_list(steps[0]["options"].get("link_error")):
                if errback not in errbacks:
                    errbacks.append(errback)
    if errbacks:
        options["link_error"] = errbacks
    return {
        "task": GATHER,
        "args": [],
        "kwargs": {"index": 0},
        "options": options,
        "subtask_type": None,
        "immutable": False,
    }


def _append(steps: list[Step], step: Step) -> None:
    """Add a step to a chain's: a group that is followed becomes a chord, an empty one nothing."""
    last = steps[-1] if steps else None
    if last is not None and step["subtask_type"] == "group" and step["kwargs"]["tasks"] == []:
        return
    if last is not None and last["subtask_type"] == "group":
        if last["kwargs"]["tasks"] == []:
            steps[-1] = step
            return
        last = steps[-1] = as_chord(last)
    if last is not None and last["subtask_type"] == "chord" and last["kwargs"]["body"] is None:
        if step["subtask_type"] is None:
            last["kwargs"]["body"] = step
            return
        last["kwargs"]["body"] = gathering(step)
    steps.append(step)


def as_chord(group: Step) -> Step:
    """Return a group as a chord that has no body yet."""
    return {
        **group,
        "task": "celery.chord",
        "kwargs": {
            "header": group["kwargs"]["tasks"],
            "body": None,
            "kwargs": {},
            **_partial(group),
        },
        "subtask_type": "chord",
    }


def as_one_task(steps: list[Step]) -> list[Step]:
    """Return steps that end in one task, which returns what the group at their end did."""
    last = as_chord(steps[-1])
    last["kwargs"]["body"] = gathering(None)
    return [*steps[:-1], last]


def end_of(steps: list[Step]) -> Step:
    """Return the task at the end of a branch that ends in one."""
    last: Step = steps[-1]
    if last["subtask_type"] == "chord":
        last = last["kwargs"]["body"]
    return last


# -- options, arguments and ids -----------------------------------------------------------------


def override(steps: list[Step], options: Mapping[str, Any]) -> None:
    """Give a branch the options of a call: the ends' to its end, the others to its beginning."""
    if not steps or not options:
        return
    first = {k: v for k, v in options.items() if k not in _ENDS and k not in _SHAPE}
    if first:
        _override_first(steps[0], first)
    for callback in as_list(options.get("link")):
        _link(steps[-1], "link", callback)
    for errback in as_list(options.get("link_error")):
        for step in steps:
            _link(step, "link_error", errback)
    if options.get("task_id") is not None:
        end = steps[-1]
        holder = end["kwargs"]["body"] if end["subtask_type"] == "chord" else end
        if holder is not None:
            holder["options"]["task_id"] = options["task_id"]


def _override_first(step: Step, options: Mapping[str, Any]) -> None:
    if step["subtask_type"] is None:
        own = step["options"]
        fixed = own.get("stamped_headers") or ()
        own.update({k: v for k, v in options.items() if k not in fixed or k not in own})
        return
    key = "header" if step["subtask_type"] == "chord" else "tasks"
    parts = step["kwargs"][key]
    if isinstance(parts, Parts):
        parts.each(lambda steps: _override_first(steps[0], options))
    else:
        for steps in parts:
            _override_first(steps[0], options)
    if step["subtask_type"] == "chord" and step["kwargs"]["body"] is not None:
        later = {k: v for k, v in options.items() if k not in _DELAYS}
        _override_first(step["kwargs"]["body"], later)


def _link(step: Step, key: str, value: Any) -> None:
    if step["subtask_type"] == "chord":
        if step["kwargs"]["body"] is not None:
            _link(step["kwargs"]["body"], key, value)
    elif step["subtask_type"] == "group":
        parts = step["kwargs"]["tasks"]
        if isinstance(parts, Parts):
            parts.each(lambda steps: override(steps, {key: value}))
        else:
            for steps in parts:
                override(steps, {key: value})
    else:
        found = as_list(step["options"].get(key))
        if value not in found:
            found.append(value)
        step["options"][key] = found


def with_arguments(step: Step, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Step:
    """Return a step that is called with more arguments, in front of its own."""
    if not args and not kwargs:
        return step
    if step["subtask_type"] is not None:
        return {
            **step,
            "args": [*args, *step["args"]],
            "kwargs": {
                **step["kwargs"],
                "partial": {**step["kwargs"].get("partial", {}), **kwargs},
            },
        }
    if step["immutable"]:
        return step
    return {**step, "args": [*args, *step["args"]], "kwargs": {**step["kwargs"], **kwargs}}


def parts_of(step: Step) -> Any:
    """Return the branches of a chord's header or of a group."""
    return step["kwargs"]["header" if step["subtask_type"] == "chord" else "tasks"]


def number(steps: list[Step], new_id: NewId, *, stream: bool = False) -> None:
    """Give every step the id that it will have, where it has none.

    :param stream: leave the generator of the first step alone: its parts get theirs as they come.
    """
    for step in steps:
        own: str = step["options"].get("task_id") or new_id()
        step["options"]["task_id"] = own
        if step["subtask_type"] is None:
            continue
        parts = parts_of(step)
        if not (stream and step is steps[0] and isinstance(parts, Parts)):
            key = "header" if step["subtask_type"] == "chord" else "tasks"
            parts = step["kwargs"][key] = list(parts)
            for index, branch in enumerate(parts):
                number_part(branch, own, index, new_id)
        if step["subtask_type"] == "chord":
            body = step["kwargs"]["body"]
            body["options"].setdefault("task_id", body_id(own))


def body_id(group: str) -> str:
    """Return the id of a chord's body that was given none."""
    return child_id(group, "body")


def number_part(branch: list[Step], group: str, index: int, new_id: NewId) -> None:
    """Give the steps of a group's part their ids, and its end the group's."""
    number(branch, new_id)
    end = branch[-1]
    if end["subtask_type"] == "chord":
        end = end["kwargs"]["body"]
    end["options"].setdefault("group_id", group)
    end["options"].setdefault("group_index", index)


def ids_of(step: Step) -> Iterator[str]:
    """Return the ids of the results that a step makes."""
    if step["subtask_type"] is None:
        yield step["options"]["task_id"]
        return
    for branch in parts_of(step):
        for inner in branch:
            yield from ids_of(inner)
    if step["subtask_type"] == "chord":
        yield step["kwargs"]["body"]["options"]["task_id"]
    else:
        yield body_id(step["options"]["task_id"])


# -- in a message --------------------------------------------------------------------------------


def to_wire(step: Step) -> Step:
    """Return a step as a signature's mapping, in Celery's form: what travels in a message."""
    if step["subtask_type"] is None:
        return step
    key = "header" if step["subtask_type"] == "chord" else "tasks"
    branches = [_branch_to_wire(branch) for branch in step["kwargs"][key]]
    return {**step, "kwargs": {**step["kwargs"], key: branches}}


def _branch_to_wire(branch: list[Step]) -> Step:
    # A group alone stays in a chain: else it would be taken apart where it stands in another.
    if len(branch) == 1 and branch[0]["subtask_type"] != "group":
        return to_wire(branch[0])
    return {
        "task": "celery.chain",
        "args": [],
        "kwargs": {"tasks": [to_wire(step) for step in branch]},
        "options": {},
        "subtask_type": "chain",
        "immutable": False,
    }


def from_wire(steps: Iterable[Mapping[str, Any]]) -> list[Step]:
    """Return the steps of mappings that travelled in a message."""
    found: list[Step] = []
    for step in steps:
        found += expand(step)
    return found
