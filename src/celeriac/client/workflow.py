"""Workflows sent: what `kernel/plan.py` says made into envelopes, groups and results.

Owns: Carry, Emission, added_to_chord, send_canvas, freeze_canvas, resume_canvas.
Thread rule: an emission belongs to the one who made it.
May import: kernel, ports, client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from celeriac.client.compose import Carry, compose
from celeriac.client.context import Context
from celeriac.client.current import get_current_request
from celeriac.client.groups import GroupResult, LazyResults
from celeriac.client.result import AsyncResult
from celeriac.kernel.emit import Call, emit, split
from celeriac.kernel.errors import BackendStoreError, CapabilityMissing
from celeriac.kernel.failure import describe
from celeriac.kernel.ids import child_id, uuid
from celeriac.kernel.message import Envelope, Group, Part, Record
from celeriac.kernel.plan import Step, expand, number, override, parts_of
from celeriac.kernel.signature import Signature
from celeriac.kernel.states import FAILURE, PENDING, PROPAGATE_STATES, SUCCESS
from celeriac.ports.codec import Codec
from celeriac.ports.registry import find_codec
from celeriac.ports.results import GrowingGroups

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

PIECE = 1_000
"""Envelopes in one call of the broker, and parts by which a group grows at once."""

LASTS = 30 * 86400.0
"""Seconds that a workflow may take, at least; ten times `result_expires` where that is longer."""

HELD = "HELD"
"""State of the slot that keeps a group open while its generator goes on."""
PLAN = "PLAN"
"""State of the record that holds the later steps of a long chain."""
_LOCAL = frozenset("retry retry_policy max_concurrency on_error add_to_parent route_name".split())


def pieces_of(app: Celeriac, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the stored pieces of long chains that are there, by their ids."""
    codec = _piece_codec(app)
    found = app.results.fetch(ids)
    return {name: codec.loads(record.body or b"{}") for name, record in found.items()}


def _piece_codec(app: Celeriac) -> Codec:
    return find_codec(app.conf.task_serializer)


class Emission:
    """Makes envelopes of calls, and sends them in pieces of a thousand.

    :param origin: (root id, parent id) of what is sent, where no task's request says.
    :param seed: what missing ids are made from, so that they are the same however often; random
        ones where None.
    :param keep: leave the last piece in `envelopes` for a settlement to carry.
    """

    def __init__(
        self,
        app: Celeriac,
        *,
        origin: tuple[str | None, str | None] = (None, None),
        seed: str | None = None,
        keep: bool = False,
        send: Callable[[Sequence[Envelope]], None] | None = None,
    ) -> None:
        self._app = app
        self._root, self._parent = origin
        self._seed, self._made = seed, 0
        self._keep = keep
        self._send = send if send is not None else app.send_envelopes
        self.envelopes: list[Envelope] = []
        self._stored: list[Record] = []
        self._opened: list[Group] = []
        self._grown: dict[str, int] = {}
        self._next: dict[str, int] = {}
        self.grows = isinstance(app.results, GrowingGroups) if app.keeps_results else False
        """Whether the parts of a generator can begin before the last one is made."""
        self.ids: list[str] = []
        """Of the tasks that are published, while they are few."""
        self.streamed: LazyResults | None = None

    def new_id(self) -> str:
        """Return the next id that nothing has fixed."""
        if self._seed is None:
            return uuid()
        self._made += 1
        return child_id(self._seed, str(self._made))

    def call(self, call: Call) -> None:
        """Take a task to publish."""
        self.envelopes.append(self._envelope(call))
        if len(self.ids) < PIECE:
            self.ids.append(call.step["options"]["task_id"])
        if len(self.envelopes) >= PIECE:
            self.flush()

    def _envelope(self, call: Call) -> Envelope:
        step = call.step
        options = {k: v for k, v in step["options"].items() if k not in _LOCAL}
        task_id = options["task_id"]
        if self._root is not None:
            options.setdefault("root_id", self._root)
        if self._parent is not None:
            options.setdefault("parent_id", self._parent)
        carry = Carry(call.slot, call.gather, call.collect, lane=call.lane)
        chain, carry.more, pieces = split(call.chain, call.more, task_id)
        lane = call.lane
        if lane is not None:
            rest, more, others = split(lane["rest"], lane.get("more"), task_id + "/lane")
            carry.lane = {"rest": rest, "more": more}
            pieces = [*pieces, *others]
        for name, piece in pieces:
            self._store(name, piece)
        if chain:
            options["chain"] = chain
        name = step["task"]
        task = self._app.tasks.get(name)
        args, kwargs = call.args, call.kwargs
        if task is not None and call.gather is None and step["subtask_type"] is None:
            if task.typing and task._check is not None and self._seed is None:
                task._check(*args, **kwargs)
            if task.pydantic_dump is not None:
                args, kwargs = task.pydantic_dump(args, kwargs)
        if call.gather is not None and step["immutable"]:
            carry.fed = False
        return compose(self._app, name, args, kwargs, options, task, carry)[0]

    def _store(self, name: str, piece: dict[str, Any]) -> None:
        try:
            body = _piece_codec(self._app).dumps(piece)
        except ValueError as error:
            raise BackendStoreError(f"a long chain cannot be stored: {error}") from error
        self._stored.append(Record(name, PLAN, body, expires_at=self._patience()))

    def _patience(self) -> float:
        """Return until when a workflow's own data are kept: longer than the results of its parts."""
        kept = self._app.result_expires
        return self._app.clock.time() + max(10 * kept, LASTS) if kept else 0.0

    def open(self, group: str, size: int | None, body: Call) -> None:
        """Open a group before its parts are published."""
        envelope = self._envelope(body)
        expires_at = self._patience()
        if size is None:
            # The slot 0 stands for the generator: full only when that has ended.
            self._next[group] = 1
            self._grown[group] = 0
        opened = Group(group, 1 if size is None else size, envelope, envelope, expires_at)
        self._opened.append(opened)

    def slot(self, group: str) -> int:
        """Return the next index of a group that grows."""
        index = self._next[group]
        self._next[group] = index + 1
        if group in self._grown:
            self._grown[group] += 1
        return index

    def close(self, group: str, error: BaseException | None) -> None:
        """End the growth of a group."""
        results = self._app.results
        self.flush(last=error is not None)
        meta: dict[str, Any] = {"status": HELD, "result": None, "task_id": group}
        state = SUCCESS
        if error is not None:
            state, meta["status"], meta["result"] = FAILURE, FAILURE, describe(error)
        body = find_codec(self._app.conf.result_serializer).dumps(meta)
        ready = results.close_parts([Part(group, 0, Record(group, state, body))])
        if ready:
            self._app.send_envelopes([one.envelope for one in ready])
            results.mark_sent([one.group for one in ready])

    def part(self, steps: list[Step]) -> None:
        """Note the result of a part that a generator gave."""
        if self.streamed is None:
            self.streamed = LazyResults(self._app)
        if len(steps) == 1 and steps[0]["subtask_type"] is None:
            self.streamed.add(steps[0]["options"]["task_id"])
        else:
            self.streamed.add(results_of(self._app, steps, waited=True))

    def flush(self, *, last: bool = True) -> None:
        """Store, open, grow and publish what is there."""
        results = self._app.results if self._stored or self._opened or self._grown else None
        if results is not None:
            if self._stored:
                results.store(self._stored)
            for opened in self._opened:
                results.open_group(opened)
            for group, count in self._grown.items():
                if count:
                    cast("GrowingGroups", results).grow_group(group, count)
                    self._grown[group] = 0
        self._stored, self._opened = [], []
        if self._keep and len(self.envelopes) < PIECE:
            return
        envelopes, self.envelopes = self.envelopes, []
        if envelopes:
            self._send(envelopes)


def added_to_chord(app: Celeriac, request: Context, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of one task more that the chord waits for which waits for this one.

    :param own: the options that it has.
    :raises ValueError: no chord waits for this task, or not any more.
    :raises CapabilityMissing: the store cannot add to a chord that has begun.
    """
    slot = request.head.slot
    if slot is None:
        raise ValueError("no chord waits for this task: it cannot add to one")
    results = app.results
    if not isinstance(results, GrowingGroups):
        raise CapabilityMissing(f"{results.name} cannot add a task to a chord that has begun")
    # Whose worker dies now runs again, and must not add a second slot, which nobody would fill.
    request.added += 1
    run = f"{request.replaced_task_nesting}.{request.retries}.{request.added}"
    once = child_id(request.id, f"added{run}")
    index = results.grow_group(slot[0], 1, once=once)
    if index < 0:
        raise ValueError("the chord that waited for this task has ended")
    place = {"group": slot[0], "index": index}
    ids = {"task_id": own.get("task_id") or once, "group_id": slot[0], "group_index": index}
    return {"chord": place, **ids}


# -- results ------------------------------------------------------------------------------------


def results_of(app: Celeriac, steps: Sequence[Step], *, waited: bool = False) -> Any:
    """Return the result of a branch, with its parents behind it.

    :param waited: something waits for all of it, so that its result is one task's.
    """
    result: Any = None
    for step in steps:
        made, first = _results_of_step(app, step, waited=waited and step is steps[-1])
        first.parent = result
        result = made
    return result


def _results_of_step(app: Celeriac, step: Step, *, waited: bool) -> tuple[Any, Any]:
    kind, own = step["subtask_type"], step["options"]["task_id"]
    if kind is None:
        result: Any = AsyncResult(own, task_name=step["task"], app=app)
        return result, result
    parts = parts_of(step)
    inner = kind == "chord" or waited
    results: Any = (
        [results_of(app, branch, waited=inner) for branch in parts]
        if isinstance(parts, list)
        else []
    )
    members = GroupResult(own, results, app=app)
    if not inner:
        return members, members
    from_body = step["kwargs"].get("body")
    body = from_body["options"]["task_id"] if from_body else child_id(own, "body")
    result = AsyncResult(body, task_name=from_body["task"] if from_body else None, app=app)
    result.parent = members
    return result, members


# -- sending ------------------------------------------------------------------------------------


def planned(
    sig: Signature, args: Any, kwargs: Any, options: Mapping[str, Any], *, shared: bool = False
) -> tuple[list[Step], tuple[Any, ...], dict[str, Any]]:
    """Return the steps of a workflow's call, and the arguments for what runs first."""
    args = tuple(args or ())
    kwargs = dict(kwargs or {})
    if sig["subtask_type"] == "chord" and "body" in kwargs:
        sig = sig.clone()
        sig["kwargs"]["body"] = kwargs.pop("body")
        if not isinstance(sig["kwargs"]["body"], Signature):
            sig["kwargs"]["body"] = Signature.from_dict(sig["kwargs"]["body"])
    if sig["immutable"] and sig["subtask_type"] != "chunks":
        args, kwargs = (), {}
    if sig["subtask_type"] == "group":
        for link in ("link", "link_error"):
            if options.get(link) is not None:
                raise TypeError(
                    f"a group takes no {link}: give it to its tasks, or make it a chord"
                )
        gid = options.get("task_id")
        if gid is not None:
            options = {k: v for k, v in options.items() if k != "task_id"}
            sig = sig.clone() if not shared else sig
            sig["options"]["task_id"] = gid
    steps = expand(sig, shared=shared)
    override(steps, options)
    return steps, args, kwargs


def send_canvas(
    app: Celeriac, sig: Signature, args: Any, kwargs: Any, options: dict[str, Any]
) -> Any:
    """Send a workflow and return the result of its end."""
    trail = options.pop("add_to_parent", True)
    root = options.pop("root_id", None)
    parent = options.pop("parent_id", None)
    steps, args, kwargs = planned(sig, args, kwargs, options)
    if not steps:
        return None
    emission = Emission(app, origin=(root, parent))
    number(steps, emission.new_id, stream=True)
    if steps[0]["subtask_type"] == "chord" and root is None and _request() is None:
        # Else nothing would tell that the body belongs to its header.
        emission._root = steps[0]["options"]["task_id"]
    if any(step["subtask_type"] == "chord" for step in steps):
        app.results  # noqa: B018 - a chord is refused here and now where no results are kept
    waits = {**sig["options"], **options}.get("chord")
    slot = (waits["group"], waits["index"]) if waits and "group" in waits else None
    emit(steps, emission, args, kwargs, slot=slot)
    emission.flush()
    if sig["subtask_type"] == "chain":
        cast("Any", sig)._sent = (steps, args, kwargs)
    result = results_of(app, steps)
    if emission.streamed is not None:
        _first_members(result).results = emission.streamed
    result = _of_one(result)
    if trail:
        note_child(result)
    return result


def _of_one(result: Any) -> Any:
    """Return the inner one of a group of one whose only task is a chain that ends in a group."""
    if isinstance(result, GroupResult) and len(result.results) == 1:
        only = result.results[0]
        if isinstance(only, GroupResult):
            return only
    return result


def _request() -> Any:
    request = get_current_request()
    return request if request is not None and not request.called_directly else None


def _first_members(result: Any) -> GroupResult:
    """Return the first group of a branch: the one whose tasks came from a generator."""
    found = None
    node = result
    while node is not None:
        if isinstance(node, GroupResult):
            found = node
        node = node.parent
    assert found is not None
    return found


def note_child(result: Any) -> None:
    """Note a result as a child of the task that runs here."""
    request = _request()
    if request is not None and result is not None:
        if request.children is None:
            request.children = []
        request.children.append(result.as_tuple())


def freeze_canvas(
    app: Celeriac, sig: Signature, task_id: str | None, fixed: Mapping[str, Any]
) -> Any:
    """Fix the ids in a workflow, in place, and return the result of its end."""
    steps, _, _ = planned(sig, (), {}, {}, shared=True)
    if not steps:
        return GroupResult(sig["options"].setdefault("task_id", uuid()), [], app=app)
    end = steps[-1]
    if task_id is not None:
        holder = end["kwargs"]["body"] if end["subtask_type"] == "chord" else end
        holder["options"].setdefault("task_id", task_id)
    number(steps, uuid)
    return _of_one(results_of(app, steps, waited="chord" in fixed))


def resume_canvas(app: Celeriac, sig: Signature, result: Any) -> Any:
    """Send a chain again from the step that failed, with the same ids.

    :raises ValueError: it was not sent, or has not failed.
    """
    sent = getattr(sig, "_sent", None)
    if sent is not None:
        steps, args, kwargs = sent
    else:
        steps, args, kwargs = planned(sig, (), {}, {})
        if any(not _end_id(step) for step in steps):
            raise ValueError("this chain was never sent: freeze() or send it before resume()")
        number(steps, uuid)
    ids = [_end_id(step) for step in steps]
    records = app.results.fetch([name for name in ids if name])
    states = [records[name].state if name and name in records else PENDING for name in ids]
    place = next((index for index, state in enumerate(states) if state != SUCCESS), None)
    if place is None:
        raise ValueError("every step of this chain has succeeded: there is nothing to resume")
    if states[place] not in PROPAGATE_STATES:
        raise ValueError(f"no step of this chain has failed: step {place + 1} has not ended")
    if place:
        value: Any = AsyncResult(cast("str", ids[place - 1]), app=app).get(
            follow_parents=False, disable_sync_subtasks=False
        )
        args, kwargs = (value,), {}
    rest = [dict(step) for step in steps[place:]]
    app.results.forget([name for name in ids[place:] if name])
    if rest[0]["subtask_type"] == "chord":
        rest[0] = _renewed(rest[0])
    emission = Emission(app)
    number(rest, emission.new_id)
    emit(rest, emission, tuple(args), kwargs)
    emission.flush()
    return results_of(app, [*steps[:place], *rest])


def _end_id(step: Step) -> str | None:
    if step["subtask_type"] == "chord":
        step = step["kwargs"]["body"]
    found: str | None = step["options"].get("task_id")
    return found


def _renewed(chord: Step) -> Step:
    """Return a chord whose header gets new ids: the slots of the former one are full."""

    def bare(branch: list[Step]) -> list[Step]:
        drop = ("task_id", "group_id", "group_index")
        made = []
        for step in branch:
            options = {k: v for k, v in step["options"].items() if k not in drop}
            one = {**step, "options": options}
            if step["subtask_type"] is not None:
                key = "header" if step["subtask_type"] == "chord" else "tasks"
                held = {**step["kwargs"], key: [bare(inner) for inner in parts_of(step)]}
                if held.get("body"):
                    held["body"] = bare([held["body"]])[0]
                one["kwargs"] = held
            made.append(one)
        return made

    options = {k: v for k, v in chord["options"].items() if k != "task_id"}
    header = [bare(branch) for branch in chord["kwargs"]["header"]]
    return {**chord, "options": options, "kwargs": {**chord["kwargs"], "header": header}}
