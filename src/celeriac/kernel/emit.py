"""The calls that begin a workflow's steps: which tasks to publish now, which groups to open.

What follows travels with a call, reversed, as in Celery, and is emitted by the worker that ran the
step before.  Two things travel with every step of a branch until that ends, one way or the other:
the slot of the chord that waits for it, and the lane of branches that begin when it has ended.

Owns: Call, Emitter, emit, emit_step, next_of_lane, split.  Pure: ids come in.
May import: kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from celeriac.kernel.ids import child_id
from celeriac.kernel.parts import Parts
from celeriac.kernel.plan import (
    Step,
    as_chord,
    body_id,
    gathering,
    number_part,
    parts_of,
    to_wire,
    with_arguments,
)

KEPT = 32
"""Steps that a message carries of a long chain; the others are stored, that many a piece."""
LONG = 2 * KEPT
"""Steps from which a chain is a long one."""


@dataclass(slots=True)
class Call:
    """One task to publish, with all that travels with it."""

    step: Step
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    chain: list[Step] = field(default_factory=list)
    """What follows, the next one last."""
    more: str | None = None
    """Where the steps behind those are stored."""
    slot: tuple[str, int] | None = None
    """(group, index) that the end of its branch fills."""
    lane: dict[str, Any] | None = None
    """`rest`: branches that begin one by one when this one has ended, the next one last; `more`."""
    gather: str | None = None
    """The group whose results are its first argument."""
    collect: bool = False
    """Exceptions are among those results."""


class Emitter(Protocol):
    """Takes what `emit` says."""

    grows: bool
    """Whether a group can be opened before its size is known."""

    def new_id(self) -> str:
        """Return an id that nothing has fixed."""
        ...

    def call(self, call: Call) -> None:
        """Publish a task."""
        ...

    def open(self, group: str, size: int | None, body: Call) -> None:
        """Open a group before its parts are called; `size` None where nobody knows it yet."""
        ...

    def slot(self, group: str) -> int:
        """Return the index of one part more of a group whose size nobody knows yet."""
        ...

    def close(self, group: str, error: BaseException | None) -> None:
        """Say that such a group has no more parts."""
        ...

    def part(self, steps: list[Step]) -> None:
        """Hear of a part of a group that comes from a generator."""
        ...


def emit(
    steps: list[Step],
    out: Emitter,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    slot: tuple[str, int] | None = None,
    lane: dict[str, Any] | None = None,
) -> None:
    """Say what to publish and to open so that a branch begins; its steps have their ids."""
    if steps:
        chain = [to_wire(step) for step in steps[:0:-1]]
        emit_step(steps[0], chain, None, out, args, kwargs, slot=slot, lane=lane)


def emit_step(
    step: Step,
    chain: list[Step],
    more: str | None,
    out: Emitter,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    slot: tuple[str, int] | None = None,
    lane: dict[str, Any] | None = None,
) -> None:
    """As `emit`, for one step and what follows it, the next one last."""
    kwargs = kwargs or {}
    if step["subtask_type"] is None:
        called = with_arguments(step, args, kwargs)
        call = Call(called, tuple(called["args"]), called["kwargs"], chain, more, slot, lane)
        out.call(call)
        return
    group: str = step["options"]["task_id"]
    if step["subtask_type"] == "group" and (slot is not None or lane is not None):
        # Something waits for all of it: a task has to say when that is.
        step = as_chord(step)
        step["kwargs"]["body"] = {**gathering(None), "options": {"task_id": body_id(group)}}
        end = {k: v for k, v in step["options"].items() if k in ("group_id", "group_index")}
        step["kwargs"]["body"]["options"].update(end)
    args = (*args, *step["args"])
    kwargs = {**step["kwargs"].get("partial", {}), **kwargs}
    limit = step["options"].get("max_concurrency")
    if step["subtask_type"] == "group":
        _emit_parts(step, out, args, kwargs, None, limit)
        return
    body = step["kwargs"]["body"]
    call = Call(body, tuple(body["args"]), body["kwargs"], chain, more, slot, lane, group)
    call.collect = step["options"].get("on_error") == "collect"
    _emit_parts(step, out, args, {**step["kwargs"]["kwargs"], **kwargs}, call, limit)


def _emit_parts(
    step: Step,
    out: Emitter,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    body: Call | None,
    limit: int | None,
) -> None:
    group: str = step["options"]["task_id"]
    parts = parts_of(step)
    if isinstance(parts, Parts):
        if limit is None and (body is None or out.grows):
            _emit_stream(parts, group, out, args, kwargs, body)
            return
        parts = parts.all()
        for index, branch in enumerate(parts):
            number_part(branch, group, index, out.new_id)
            out.part(branch)
    if body is not None and not parts:
        _emit_empty(body, out)
        return
    if body is not None:
        out.open(group, len(parts), body)
    slots = [(group, index) if body is not None else None for index in range(len(parts))]
    if limit is not None and limit < len(parts):
        _emit_lanes(parts, slots, limit, out, args, kwargs)
        return
    for branch, slot in zip(parts, slots, strict=True):
        emit(branch, out, args, kwargs, slot=slot)


def _emit_empty(body: Call, out: Emitter) -> None:
    """Call a chord's body at once: its header has no task."""
    body.gather = None
    if not body.step["immutable"]:
        body.args = ([], *body.args)
    out.call(body)


def _emit_stream(
    parts: Parts,
    group: str,
    out: Emitter,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    body: Call | None,
) -> None:
    """Begin the parts of a generator as they come."""
    opened = False
    index = 0
    try:
        for branch in parts.stream():
            if body is not None and not opened:
                out.open(group, None, body)
                opened = True
            slot = (group, out.slot(group)) if body is not None else None
            number_part(branch, group, index, out.new_id)
            emit(branch, out, args, kwargs, slot=slot)
            out.part(branch)
            index += 1
    except BaseException as error:
        if opened:
            out.close(group, error)
        raise
    if opened:
        out.close(group, None)
    elif body is not None:
        _emit_empty(body, out)


def _emit_lanes(
    parts: list[list[Step]],
    slots: list[tuple[str, int] | None],
    limit: int,
    out: Emitter,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> None:
    """Begin the first `limit` parts; each takes a share of the others along, to begin after it."""
    for first in range(limit):
        rest = [
            {
                "steps": [to_wire(step) for step in _called(parts[index], args, kwargs)],
                "slot": slots[index],
            }
            for index in range(first + limit, len(parts), limit)
        ]
        rest.reverse()
        emit(parts[first], out, args, kwargs, slot=slots[first], lane={"rest": rest, "more": None})


def _called(steps: list[Step], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Step]:
    return [with_arguments(steps[0], args, kwargs), *steps[1:]]


def next_of_lane(lane: Mapping[str, Any] | None) -> tuple[Any, dict[str, Any]] | None:
    """Return the branch that begins now that the one before has ended, and the lane behind it."""
    if not lane or not lane["rest"]:
        return None
    rest = list(lane["rest"])
    branch = rest.pop()
    return branch, {"rest": rest, "more": lane.get("more")}


def split(
    rest: list[Any], more: str | None, seed: str
) -> tuple[list[Any], str | None, list[tuple[str, dict[str, Any]]]]:
    """Return the part of a long list that a message carries, where the others are, and those.

    :param seed: what the ids of the pieces are made from: the same ones however often.
    """
    if len(rest) <= LONG:
        return rest, more, []
    pieces = []
    end = len(rest) - KEPT
    for start in range(0, end, KEPT):
        piece = rest[start : min(start + KEPT, end)]
        name = child_id(seed, f"rest{start}")
        pieces.append((name, {"rest": piece, "more": more}))
        more = name
    return rest[end:], more, pieces
