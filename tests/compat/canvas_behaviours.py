"""What a canvas does, one behaviour a function, each with the answer that Celery gives.

A behaviour gets a side (`tests/compat/sides.py`) and returns plain data.  The answer beside it is
that of Celery with a worker; `eager=` is that of Celery under `task_always_eager`, where it is another.

Owns: BEHAVIOURS, Behaviour.
"""

from __future__ import annotations

import contextlib
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.compat.sides import Side
from tests.support.project import eventually

SAME: Any = object()

SOON: dict[str, Any] = {"timeout": 10, "interval": 0.02}
"""How `get` waits; Celery looks only so often where it waits for a group."""


@dataclass(frozen=True)
class Behaviour:
    """A behaviour and what Celery answers."""

    name: str
    run: Callable[[Side], Any]
    answer: Any
    eager: Any
    not_eager: bool
    """It needs a worker."""


class InAnyOrder:
    """An answer whose lists come in an order that changes from run to run."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return _ordered(other) == _ordered(self.value)

    def __hash__(self) -> int:
        return hash(repr(_ordered(self.value)))

    def __repr__(self) -> str:
        return f"{self.value!r} in any order"


def _ordered(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return sorted((_ordered(item) for item in value), key=repr)
    return value


BEHAVIOURS: dict[str, Behaviour] = {}


def behaves(answer: Any, *, eager: Any = SAME, not_eager: bool = False) -> Any:
    """Register a behaviour with Celery's answer."""

    def register(run: Callable[[Side], Any]) -> Callable[[Side], Any]:
        name = run.__name__
        BEHAVIOURS[name] = Behaviour(
            name, run, answer, answer if eager is SAME else eager, not_eager
        )
        return run

    return register


# -- signatures ---------------------------------------------------------------------------------


@behaves((["args", "immutable", "kwargs", "options", "subtask_type", "task"], True))
def signature_is_a_dict_with_these_keys(c: Side) -> Any:
    return sorted(c.t.add.s(1, 2)), c.t.add.s(1, 2) == dict(c.t.add.s(1, 2))


@behaves((True, True))
def signature_of_a_name_and_of_a_dict(c: Side) -> Any:
    by_name = c.signature("c.add", args=(1, 2), app=c.app)
    return by_name == c.t.add.s(1, 2), c.signature(dict(by_name), app=c.app) == by_name


@behaves(("c.add", [1, 2], {}, {"queue": "q", "countdown": 3}, False))
def signature_survives_json(c: Side) -> Any:
    sig = c.t.add.s(1, 2).set(queue="q", countdown=3)
    again = c.signature(json.loads(json.dumps(sig)), app=c.app)
    return again.task, list(again.args), again.kwargs, again.options, again.immutable


@behaves(("_chain", ("SUCCESS", 9)))
def canvas_survives_json(c: Side) -> Any:
    sig = c.chain(c.t.add.s(1, 2), c.group(c.t.add.s(1), c.t.add.s(2)), c.t.total.s())
    again = c.signature(json.loads(json.dumps(sig)), app=c.app)
    return type(again).__name__, c.outcome(again.apply_async())


@behaves(True)
def signature_survives_pickle(c: Side) -> Any:
    sig = c.t.add.s(1, 2).set(priority=3)
    return pickle.loads(pickle.dumps(sig)) == sig


@behaves(("SUCCESS", [[1, 2, 3], {"a": 1, "b": 2}]))
def partial_puts_arguments_in_front(c: Side) -> Any:
    sig = c.t.pack.s(3, a=1, b=1)
    return c.outcome(sig.clone((1, 2), {"b": 2}).apply_async())


@behaves(("SUCCESS", [[1, 2], {"a": 2}]))
def arguments_of_the_call_go_in_front(c: Side) -> Any:
    return c.outcome(c.t.pack.s(2, a=1).apply_async((1,), {"a": 2}))


@behaves(("SUCCESS", [[1, 2], {"k": 5}]))
def delay_of_a_signature(c: Side) -> Any:
    return c.outcome(c.t.pack.s(2).delay(1, k=5))


@behaves(("SUCCESS", [[2], {}]))
def immutable_ignores_arguments(c: Side) -> Any:
    return c.outcome(c.t.pack.si(2).apply_async((1,), {"k": 2}))


@behaves({"priority": 3})
def immutable_takes_options(c: Side) -> Any:
    return c.t.pack.si(2).clone((1,), {"k": 2}, priority=3).options


@behaves(((1,), {}, (5, 1)))
def clone_does_not_touch_the_original(c: Side) -> Any:
    sig = c.t.add.s(1)
    copy = sig.clone((5,), priority=2)
    copy.link(c.t.ident.s())
    return sig.args, sig.options, copy.args


@behaves((True, {"priority": 3}, True))
def set_changes_in_place(c: Side) -> Any:
    sig = c.t.add.s(1)
    same = sig.set(priority=3, immutable=True)
    return same is sig, sig.options, sig.immutable


@behaves((5, 3, [[1, 2], {"k": 3}]))
def calling_runs_in_place(c: Side) -> Any:
    return c.t.add.s(1)(4), c.t.add.si(1, 2)(), c.t.pack.s(2)(1, k=3)


@behaves(("SUCCESS", 3))
def apply_of_a_signature(c: Side) -> Any:
    return c.outcome(c.t.add.s(2).apply((1,)))


@behaves((True, True))
def freeze_fixes_the_id(c: Side) -> Any:
    sig = c.t.add.s(1, 2)
    frozen = sig.freeze()
    sent = sig.apply_async()
    return frozen.id == sig.id == sent.id, sig.freeze().id == frozen.id


@behaves(("an-id", "an-id", "an-id"))
def freeze_with_an_id(c: Side) -> Any:
    sig = c.t.add.s(1, 2)
    return sig.freeze("an-id").id, sig.id, sig.options["task_id"]


@behaves(
    [
        "c.add(1, 2)",
        "c.add(1, y=2)",
        "c.add(1, 2)",
        "c.add(1, 2) | add(3)",
        "group((c.add(1, 2), add(3, 4)))",
        "%c.total([add(1, 2), add(3, 4)])",
        "group(<empty>)",
        "'c.add(7, 1, 2)'",
    ]
)
def repr_of_signatures(c: Side) -> Any:
    add, total = c.t.add, c.t.total
    return [
        repr(add.s(1, 2)),
        repr(add.s(1, y=2)),
        repr(add.si(1, 2)),
        repr(add.s(1, 2) | add.s(3)),
        repr(c.group(add.s(1, 2), add.s(3, 4))),
        repr(c.chord([add.s(1, 2), add.s(3, 4)], total.s())),
        repr(c.group([])),
        repr(add.s(1, 2).reprcall(7)),
    ]


@behaves(["_chain", "group", "_chord", "xmap", "xstarmap", "chunks"])
def names_of_canvas_classes(c: Side) -> Any:
    add = c.t.add
    return [
        type(x).__name__
        for x in (
            c.chain(add.s(1, 1), add.s(1)),
            c.group(add.s(1, 1)),
            c.chord([add.s(1, 1)], c.t.total.s()),
            add.map([1]),
            add.starmap([(1, 2)]),
            add.chunks([(1, 2)], 1),
        )
    ]


@behaves(("celery.chain", "chain", ["tasks"], ["c.add", "c.add"]))
def wire_form_of_a_chain(c: Side) -> Any:
    sig = json.loads(json.dumps(c.chain(c.t.add.s(1, 1), c.t.add.s(2))))
    return (
        sig["task"],
        sig["subtask_type"],
        sorted(sig["kwargs"]),
        [t["task"] for t in sig["kwargs"]["tasks"]],
    )


@behaves(("celery.group", "group", ["tasks"], [[1, 1], [2, 2]]))
def wire_form_of_a_group(c: Side) -> Any:
    sig = json.loads(json.dumps(c.group(c.t.add.s(1, 1), c.t.add.s(2, 2))))
    return (
        sig["task"],
        sig["subtask_type"],
        sorted(sig["kwargs"]),
        [t["args"] for t in sig["kwargs"]["tasks"]],
    )


@behaves(("celery.chord", "chord", ["body", "header", "kwargs"], "c.total"))
def wire_form_of_a_chord(c: Side) -> Any:
    sig = json.loads(json.dumps(c.chord([c.t.add.s(1, 1)], c.t.total.s())))
    return sig["task"], sig["subtask_type"], sorted(sig["kwargs"]), sig["kwargs"]["body"]["task"]


@behaves(("SUCCESS", 7))
def app_signature(c: Side) -> Any:
    return c.outcome(c.app.signature("c.add", args=(3, 4)).apply_async())


@behaves((None, "Signature"))
def maybe_signature_leaves_none(c: Side) -> Any:
    maybe = c.canvas.maybe_signature
    return maybe(None, app=c.app), type(maybe(dict(c.t.add.s(1)), app=c.app)).__name__


@behaves(["c.add", "c.add", "c.ident"])
def flatten_links(c: Side) -> Any:
    sig = c.t.add.s(1, 2)
    second = c.t.add.s(3)
    second.link(c.t.ident.s())
    sig.link(second)
    return [s.task for s in sig.flatten_links()]


@behaves(1)
def linking_twice_is_once(c: Side) -> Any:
    sig = c.t.add.s(1, 2)
    sig.link(c.t.ident.s())
    sig.link(c.t.ident.s())
    return len(sig.options["link"])


@behaves((True, True, True))
def link_returns_the_callback_and_on_error_the_signature(c: Side) -> Any:
    sig, other = c.t.add.s(1, 2), c.t.ident.s()
    return sig.link(other) is other, sig.link_error(other) is other, sig.on_error(other) is sig


@behaves("NotRegistered")
def unknown_task_in_a_signature(c: Side) -> Any:
    sig = c.signature("c.nowhere", args=(1,), app=c.app)
    return c.raised(lambda: sig.type)


# -- chains -------------------------------------------------------------------------------------


@behaves(("SUCCESS", 60))
def chain_passes_results_on(c: Side) -> Any:
    return c.outcome(c.chain(c.t.add.s(1, 2), c.t.add.s(3), c.t.mul.s(10))())


@behaves(("SUCCESS", 6))
def chain_by_operator(c: Side) -> Any:
    return c.outcome((c.t.add.s(1, 2) | c.t.add.s(3)).apply_async())


@behaves(("chain", False))
def chain_of_one_is_the_signature(c: Side) -> Any:
    sig = c.t.add.s(1, 2)
    return type(c.chain(sig)).__name__, c.chain(sig) is sig


@behaves(("chain", ("returned", None)))
def chain_of_none(c: Side) -> Any:
    return type(c.chain()).__name__, c.raised(lambda: c.chain()())


@behaves((("SUCCESS", 6), ("SUCCESS", 6)))
def chain_of_a_list_and_a_generator(c: Side) -> Any:
    steps = [c.t.add.s(1, 2), c.t.add.s(3)]
    return c.outcome(c.chain(steps)()), c.outcome(c.chain(s for s in steps)())


@behaves((3, 3, 4))
def chain_flattens_chains(c: Side) -> Any:
    inner = c.chain(c.t.add.s(1), c.t.add.s(2))
    return (
        len((c.t.add.s(0, 0) | inner).tasks),
        len((inner | c.t.add.s(3)).tasks),
        len((inner | inner).tasks),
    )


@behaves((("SUCCESS", [[1, 2], {}]), ("SUCCESS", [[1, 2], {"k": 3}])))
def chain_call_arguments_reach_the_first(c: Side) -> Any:
    return c.outcome(c.chain(c.t.pack.s(2), c.t.ident.s())(1)), c.outcome(
        c.chain(c.t.pack.s(2), c.t.ident.s()).apply_async((1,), {"k": 3})
    )


@behaves((3, 2, None))
def chain_result_knows_its_parents(c: Side) -> Any:
    result = c.chain(c.t.add.s(1, 1), c.t.add.s(1), c.t.add.s(1)).apply_async()
    result.get(**SOON)
    return result.parent.get(), result.parent.parent.get(), result.parent.parent.parent


@behaves((True, True), eager=(True, False))
def chain_ids_are_known_beforehand(c: Side) -> Any:
    chain = c.chain(c.t.add.s(1, 1), c.t.add.s(1))
    frozen = chain.freeze()
    sent = chain.apply_async()
    sent.get(**SOON)
    return frozen.id == sent.id, frozen.parent.id == sent.parent.id


@behaves(True)
def chain_takes_the_task_id_for_its_last(c: Side) -> Any:
    result = c.chain(c.t.add.s(1, 1), c.t.add.s(1)).apply_async(task_id=f"last-{c.key()}")
    result.get(**SOON)
    return result.id.startswith("last-")


@behaves(("SUCCESS", [["alone"], {}]))
def chain_with_an_immutable_step(c: Side) -> Any:
    return c.outcome(c.chain(c.t.add.s(1, 1), c.t.pack.si("alone"), c.t.ident.s())())


@behaves((True, True, True, True, None), eager=(False, False, False, True, None))
def chain_root_and_parents(c: Side) -> Any:
    result = c.chain(c.t.family.s(), c.t.family.si(), c.t.family.si()).apply_async()
    last = result.get(**SOON)
    middle, first = result.parent.get(), result.parent.parent.get()
    return (
        last[1] == middle[1] == first[0],
        last[2] == middle[0],
        middle[2] == first[0],
        first[1] == first[0],
        first[2],
    )


@behaves(
    (
        "SUCCESS",
        {
            "chain": 2,
            "callbacks": 0,
            "errbacks": 0,
            "chord": False,
            "group": False,
            "group_index": None,
        },
    ),
    eager=(
        "SUCCESS",
        {
            "chain": 0,
            "callbacks": 0,
            "errbacks": 0,
            "chord": False,
            "group": False,
            "group_index": None,
        },
    ),
)
def chain_step_sees_the_rest(c: Side) -> Any:
    return c.outcome(c.chain(c.t.facts.s(), c.t.ident.s(), c.t.ident.s())())


@behaves((True, ("SUCCESS", 3), ("SUCCESS", 3)), eager=(False, ("SUCCESS", 3), ("SUCCESS", 3)))
def chain_reused_gives_new_ids(c: Side) -> Any:
    chain = c.chain(c.t.add.s(1, 1), c.t.add.s(1))
    first, second = chain(), chain()
    return first.id == second.id, c.outcome(first), c.outcome(second)


@behaves(
    (
        "SUCCESS",
        {
            "chain": 1,
            "callbacks": 0,
            "errbacks": 0,
            "chord": False,
            "group": False,
            "group_index": None,
        },
    ),
    eager=(
        "SUCCESS",
        {
            "chain": 0,
            "callbacks": 0,
            "errbacks": 0,
            "chord": False,
            "group": False,
            "group_index": None,
        },
    ),
)
def chain_options_go_to_every_step(c: Side) -> Any:
    chain = c.chain(c.t.facts.s(), c.t.ident.s())
    return c.outcome(chain.apply_async(link=c.t.ident.s()))


@behaves([True], eager=[])
def chain_children_lead_on(c: Side) -> Any:
    result = c.chain(c.t.add.s(1, 1), c.t.add.s(1)).apply_async()
    result.get(**SOON)
    return [child.id == result.id for child in result.parent.children or []]


@behaves([[3]])
def chain_link_is_called_with_the_last_result(c: Side) -> Any:
    key = c.key()
    chain = c.chain(c.t.add.s(1, 1), c.t.add.s(1))
    chain.link(c.t.note.s(key=key))
    chain.apply_async().get(**SOON)
    return c.notes(key, 1)


@behaves((("SUCCESS", 3), "EagerResult", 2))
def chain_applied(c: Side) -> Any:
    result = c.chain(c.t.add.s(1, 1), c.t.add.s(1)).apply()
    return c.outcome(result), type(result).__name__, result.parent.get()


@behaves(("SUCCESS", 41))
def chain_of_many(c: Side) -> Any:
    return c.outcome(c.chain(c.t.add.s(0, 1), *[c.t.add.s(1) for _ in range(40)])())


# -- errors in chains ---------------------------------------------------------------------------


@behaves((("FAILURE", "ValueError", "boom"), [], "FAILURE"), eager=("ValueError", []))
def chain_ends_at_a_failure(c: Side) -> Any:
    key = c.key()
    chain = c.chain(c.t.fail.s(), c.t.note.si(1, key=key))
    if c.eager:
        return c.raised(chain), c.notes(key, 0)
    result = chain.apply_async()
    outcome = c.outcome(result.parent)
    c.settled()
    return outcome, c.notes(key, 0), result.state


@behaves("ValueError")
def chain_get_raises_what_a_parent_raised(c: Side) -> Any:
    return c.raised(lambda: c.chain(c.t.fail.s(), c.t.ident.s())().get(**SOON))


@behaves([["old", True]])
def chain_errback_on_the_whole(c: Side) -> Any:
    key = c.key()
    chain = c.chain(c.t.add.s(1, 1), c.t.fail.s(), c.t.ident.s())
    chain.link_error(c.t.errback_old.s(key=key))
    c.raised(lambda: chain.apply_async().get(**SOON))
    c.notes(key, 1)
    c.settled()
    return c.notes(key, 1)


@behaves([["old", True]])
def chain_errback_as_an_option(c: Side) -> Any:
    key = c.key()
    chain = c.chain(c.t.add.s(1, 1), c.t.fail.s(), c.t.ident.s())
    c.raised(lambda: chain.apply_async(link_error=c.t.errback_old.s(key=key)).get(**SOON))
    c.settled()
    return c.notes(key, 0 if c.eager else 1)


@behaves([])
def chain_errback_of_one_step_only(c: Side) -> Any:
    key = c.key()
    chain = c.chain(c.t.ident.s(1).on_error(c.t.errback_old.s(key=key)), c.t.fail.s())
    c.raised(lambda: chain.apply_async().get(**SOON))
    c.settled()
    return c.notes(key, 0)


@behaves([["old", True]])
def errback_old_form(c: Side) -> Any:
    key = c.key()
    c.t.fail.apply_async(link_error=c.t.errback_old.s(key=key))
    return c.notes(key, 1)


@behaves(True)
def errback_old_form_gets_the_id_of_what_failed(c: Side) -> Any:
    key = c.key()
    result = c.t.fail.apply_async(link_error=c.t.errback_id.s(key=key))
    return c.notes(key, 1) == [result.id]


@behaves([["new", True, "ValueError", "boom"]])
def errback_new_form(c: Side) -> Any:
    key = c.key()
    c.t.fail.apply_async(link_error=c.t.errback_new.s(key=key))
    return c.notes(key, 1)


@behaves([["called"]])
def errback_immutable(c: Side) -> Any:
    key = c.key()
    c.t.fail.apply_async(link_error=c.t.note.si("called", key=key))
    return c.notes(key, 1)


@behaves(["['new', True, 'ValueError', 'boom']", "['old', True]", "[1]"])
def errbacks_several(c: Side) -> Any:
    key = c.key()
    c.t.fail.apply_async(
        link_error=[c.t.errback_old.s(key=key), c.t.errback_new.s(key=key), c.t.note.si(1, key=key)]
    )
    c.notes(key, 3)
    c.settled()
    return sorted(map(str, c.notes(key, 3)))


@behaves([["a"]])
def errback_that_is_a_chain(c: Side) -> Any:
    key = c.key()
    c.t.fail.apply_async(link_error=c.chain(c.t.ident.si("a"), c.t.note.s(key=key)))
    return c.notes(key, 1)


@behaves([])
def errback_not_called_on_success(c: Side) -> Any:
    key = c.key()
    c.t.add.apply_async((1, 1), link_error=c.t.errback_old.s(key=key)).get(**SOON)
    c.settled()
    return c.notes(key, 0)


@behaves(["['alone']", "[2, 'second']"])
def link_called_with_the_result(c: Side) -> Any:
    key = c.key()
    c.t.add.apply_async((1, 1), link=[c.t.note.s("second", key=key), c.t.note.si("alone", key=key)])
    return sorted(map(str, c.notes(key, 2)))


@behaves([])
def link_not_called_on_failure(c: Side) -> Any:
    key = c.key()
    c.outcome(c.t.fail.apply_async(link=c.t.note.s(key=key)))
    c.settled()
    return c.notes(key, 0)


@behaves([[2, "a"], [2, "b"]])
def link_that_is_a_group(c: Side) -> Any:
    key = c.key()
    c.t.add.apply_async((1, 1), link=c.group(c.t.note.s("a", key=key), c.t.note.s("b", key=key)))
    return sorted(c.notes(key, 2))


@behaves(("FAILURE", "EncodeError", [["old", True], [1]]), eager=("SUCCESS", "object", [[1]]))
def unserialisable_in_the_middle(c: Side) -> Any:
    key = c.key()
    result = c.chain(c.t.unserialisable.s(), c.t.note.si(1, key=key)).apply_async(
        link_error=c.t.errback_old.s(key=key)
    )
    state, value, *_ = c.outcome(result.parent)
    if not c.eager:
        eventually(lambda: ["old", True] in c.notes(key, 0), saying="the errback")
    c.settled()
    notes = sorted(c.notes(key, 1), key=repr)
    return state, value if isinstance(value, str) else type(value).__name__, notes


@behaves((("SUCCESS", 2), ("FAILURE", "NotRegistered")), not_eager=True)
def unknown_task_in_the_middle(c: Side) -> Any:
    result = c.chain(c.t.add.s(1, 1), c.signature("c.nowhere", app=c.app), c.t.ident.s())()
    first = c.outcome(result.parent.parent)
    return first, c.outcome(result.parent, timeout=2)[:2]


@behaves("TypeError")
def wrong_arguments_in_the_middle(c: Side) -> Any:
    result = c.chain(c.t.add.s(1, 1), c.t.untyped.s("one too many"), c.t.ident.s())
    return c.raised(lambda: result().get(**SOON))


# -- groups -------------------------------------------------------------------------------------


@behaves(("GroupResult", [0, 2, 4, 6, 8], 5, 5))
def group_in_order(c: Side) -> Any:
    result = c.group(c.t.add.s(i, i) for i in range(5))()
    return type(result).__name__, result.get(**SOON), len(result), result.completed_count()


@behaves(([2, 4], [2, 4]))
def group_of_a_list_and_arguments(c: Side) -> Any:
    parts = [c.t.add.s(1, 1), c.t.add.s(2, 2)]
    return c.group(parts)().get(**SOON), c.group(*parts)().get(**SOON)


@behaves(
    (
        [[[1, 2], {}], [[3], {}], [[1], {"k": 1}]],
        [[[1, 2], {"j": 5}], [[3], {}], [[1], {"k": 1, "j": 5}]],
    )
)
def group_call_arguments_reach_every_part(c: Side) -> Any:
    parts = c.group(c.t.pack.s(2), c.t.pack.si(3), c.t.pack.s(k=1))
    return parts(1).get(**SOON), parts.apply_async((1,), {"j": 5}).get(**SOON)


@behaves(("GroupResult", 0, [], True, True))
def group_empty(c: Side) -> Any:
    result = c.group([])()
    return (
        type(result).__name__,
        len(result),
        result.get(**SOON),
        result.ready(),
        result.successful(),
    )


@behaves(("group", [2]))
def group_of_one(c: Side) -> Any:
    group = c.group(c.t.add.s(1, 1))
    return type(group).__name__, group().get(**SOON)


@behaves((2, [2, 4, 6]))
def group_of_groups(c: Side) -> Any:
    inner = c.group(c.t.add.s(1, 1), c.t.add.s(2, 2))
    group = c.group(inner, c.t.add.s(3, 3))
    return len(group.tasks), group().get(**SOON)


@behaves([10, 20, 30])
def group_of_chains(c: Side) -> Any:
    group = c.group(c.t.add.s(i, 1) | c.t.mul.s(10) for i in range(3))
    return group().get(**SOON)


@behaves(("_chord", [6, [2, 4]]))
def group_then_group_makes_a_chord(c: Side) -> Any:
    sig = c.group(c.t.add.s(1, 1), c.t.add.s(2, 2)) | c.group(c.t.total.s(), c.t.ident.s())
    return type(sig).__name__, sig().get(**SOON)


@behaves(("_chord", ("SUCCESS", 6)))
def group_then_task_makes_a_chord(c: Side) -> Any:
    sig = c.group(c.t.add.s(1, 1), c.t.add.s(2, 2)) | c.t.total.s()
    return type(sig).__name__, c.outcome(sig())


@behaves(("_chord", ("SUCCESS", [2])))
def group_of_one_then_task(c: Side) -> Any:
    sig = c.group(c.t.add.s(1, 1)) | c.t.ident.s()
    return type(sig).__name__, c.outcome(sig())


@behaves(("_chord", ("SUCCESS", 6)))
def group_in_chain_call(c: Side) -> Any:
    sig = c.chain(c.group(c.t.add.s(1, 1), c.t.add.s(2, 2)), c.t.total.s())
    return type(sig).__name__, c.outcome(sig())


@behaves(("GroupResult", [3, 4], 2))
def group_at_the_end_of_a_chain(c: Side) -> Any:
    result = c.chain(c.t.add.s(1, 1), c.group(c.t.add.s(1), c.t.add.s(2)))()
    return type(result).__name__, result.get(**SOON), result.parent.get(**SOON)


@behaves(("AsyncResult", ("SUCCESS", 7)), eager=("EagerResult", ("SUCCESS", 7)))
def group_at_the_end_of_a_chain_by_operator(c: Side) -> Any:
    result = (c.t.add.s(1, 1) | c.group(c.t.add.s(1), c.t.add.s(2)) | c.t.total.s())()
    return type(result).__name__, c.outcome(result)


@behaves([[True, 0, False], [True, 1, False]], eager=[[False, None, False], [False, None, False]])
def group_parts_share_an_id(c: Side) -> Any:
    result = c.group(c.t.facts.s(), c.t.facts.s()).apply_async()
    return [[f["group"], f["group_index"], f["chord"]] for f in result.get(**SOON)]


@behaves(("ValueError", ["2", "boom", "4"], True, False, True, False, 2))
def group_with_a_failure(c: Side) -> Any:
    result = c.group(c.t.add.s(1, 1), c.t.fail.s(), c.t.add.s(2, 2))()
    raised = c.raised(lambda: result.get(**SOON))
    values = result.get(timeout=10, propagate=False)
    return (
        raised,
        [str(v) for v in values],
        result.ready(),
        result.successful(),
        result.failed(),
        result.waiting(),
        result.completed_count(),
    )


@behaves([["old", True], ["old", True]])
def group_errback_once_for_each_failure(c: Side) -> Any:
    key = c.key()
    group = c.group(c.t.fail.s(), c.t.fail.s(), c.t.add.s(1, 1))
    group.link_error(c.t.errback_old.s(key=key))
    c.raised(lambda: group().get(timeout=10, propagate=False))
    c.notes(key, 1)
    c.settled()
    return c.notes(key, 1)


@behaves([[]])
def group_link(c: Side) -> Any:
    key = c.key()
    group = c.group(c.t.add.s(1, 1), c.t.add.s(2, 2))
    group.link(c.t.note.s(key=key))
    group().get(**SOON)
    c.notes(key, 1)
    c.settled()
    return c.notes(key, 1)


@behaves(("GroupResult", [True, True], True))
def group_frozen(c: Side) -> Any:
    group = c.group(c.t.add.s(1, 1), c.t.add.s(2, 2))
    frozen = group.freeze()
    sent = group.apply_async()
    sent.get(**SOON)
    return (
        type(frozen).__name__,
        [a.id == b.id for a, b in zip(frozen, sent, strict=True)],
        frozen.id == sent.id,
    )


@behaves([2, 4])
def group_countdown_reaches_the_parts(c: Side) -> Any:
    return c.group(c.t.add.s(1, 1), c.t.add.s(2, 2)).apply_async(countdown=0.1).get(**SOON)


@behaves([1.0, 3.0, 5.0])
def group_skew(c: Side) -> Any:
    group = c.group(c.t.add.s(i, i) for i in range(3)).skew(start=1, stop=9, step=2)
    return [part.options["countdown"] for part in group.tasks]


@behaves(("GroupResult", ["SUCCESS", "FAILURE"], 2))
def group_applied(c: Side) -> Any:
    result = c.group(c.t.add.s(1, 1), c.t.fail.s()).apply()
    return type(result).__name__, [r.state for r in result], len(result)


@behaves((("SUCCESS", 2), ("FAILURE", "NotRegistered")), eager="NotRegistered")
def group_with_an_unknown_task(c: Side) -> Any:
    group = c.group(c.t.add.s(1, 1), c.signature("c.nowhere", app=c.app))
    if c.eager:
        return c.raised(lambda: group().get(timeout=2))
    result = group()
    return c.outcome(result[0]), c.outcome(result[1], timeout=2)[:2]


# -- group results ------------------------------------------------------------------------------


@behaves(([2, 4], 1, "KeyError", 2, 0))
def result_set_names(c: Side) -> Any:
    a, b = c.t.add.delay(1, 1), c.t.add.delay(2, 2)
    many = c.results.ResultSet([a], app=c.app)
    many.add(b)
    many.add(b)
    first = many.join(timeout=10)
    many.discard(a)
    many.discard(a)
    after = len(many)
    raised = c.raised(lambda: many.remove(a))
    many.update([a, b])
    updated = len(many)
    many.clear()
    return first, after, raised, updated, len(many)


@behaves((2, [0, 2, 4], 3, True))
def group_result_indexing_and_iteration(c: Side) -> Any:
    result = c.group(c.t.add.s(i, i) for i in range(3))()
    result.get(**SOON)
    return (
        result[1].get(),
        [r.get() for r in result],
        len(result.results),
        result[0] in list(result),
    )


@behaves(([0, 2, 4], (True, True), None), eager=(None, (True, True), None))
def group_result_saved_and_restored(c: Side) -> Any:
    result = c.group(c.t.add.s(i, i) for i in range(3))()
    result.get(**SOON)
    result.save()
    restored = c.results.GroupResult.restore(result.id, app=c.app)
    values = None if c.eager else restored.get(**SOON)
    equal = restored == result, [r.id for r in restored] == [r.id for r in result]
    result.delete()
    return values, equal, c.results.GroupResult.restore(result.id, app=c.app)


@behaves(((True, None, True), "GroupResult", True))
def group_result_as_tuple(c: Side) -> Any:
    result = c.group(c.t.add.s(i, i) for i in range(2))()
    result.get(**SOON)
    (head, parent), parts = result.as_tuple()
    shape = head == result.id, parent, [p[0][0] for p in parts] == [r.id for r in result]
    again = c.results.result_from_tuple(json.loads(json.dumps(result.as_tuple())), app=c.app)
    return shape, type(again).__name__, again == result


@behaves((True, True, True))
def chain_result_as_tuple(c: Side) -> Any:
    result = c.chain(c.t.add.s(1, 1), c.t.add.s(1))()
    result.get(**SOON)
    again = c.results.result_from_tuple(json.loads(json.dumps(result.as_tuple())), app=c.app)
    return (
        again.id == result.id,
        again.parent.id == result.parent.id,
        result.as_list()
        == [
            result.id,
            result.parent.id,
        ],
    )


@behaves(("TimeoutError", (True, False, 1, True), [2, 1]), not_eager=True)
def group_join_times_out(c: Side) -> Any:
    key = c.key()
    result = c.group(c.t.add.s(1, 1), c.t.wait_for.s(key, 1))()
    raised = c.raised(lambda: result.get(timeout=0.3))
    part = result[0].ready(), result.ready(), result.completed_count(), result.waiting()
    c.t.note.delay(1, key=key)
    return raised, part, result.get(**SOON)


@behaves(([], [0, 2, 4]))
def group_join_callback(c: Side) -> Any:
    result = c.group(c.t.add.s(i, i) for i in range(3))()
    seen: list[Any] = []
    value = result.join(timeout=10, callback=lambda task_id, value: seen.append(value))
    return value, seen


@behaves(([0, 2, 4], [0, 2, 4]), not_eager=True)
def group_join_native_and_iter_native(c: Side) -> Any:
    result = c.group(c.t.add.s(i, i) for i in range(3))()
    joined = result.join_native(timeout=10)
    metas = sorted(meta["result"] for _, meta in result.iter_native(timeout=10))
    return joined, metas


@behaves([True], eager=[])
def group_then(c: Side) -> Any:
    result = c.group(c.t.add.s(i, i) for i in range(3))()
    result.get(**SOON)
    seen: list[Any] = []
    with contextlib.suppress(Exception):
        result.then(lambda r: seen.append(r.id == result.id))
    return seen


@behaves(["PENDING", "PENDING"])
def group_forget(c: Side) -> Any:
    result = c.group(c.t.add.s(i, i) for i in range(2))()
    result.get(**SOON)
    result.forget()
    return [c.app.AsyncResult(r.id).state for r in result]


@behaves(
    ([("REVOKED", "TaskRevokedError"), ("REVOKED", "TaskRevokedError")], "TaskRevokedError", False),
    not_eager=True,
)
def group_revoked_before_it_begins(c: Side) -> Any:
    result = c.group(c.t.add.s(i, i) for i in range(2)).apply_async(countdown=1)
    result.revoke()
    return (
        [c.outcome(r)[:2] for r in result],
        c.raised(lambda: result.get(timeout=5)),
        result.failed(),
    )


@behaves((("REVOKED", "TaskRevokedError"), []), not_eager=True)
def chain_revoked_in_the_middle(c: Side) -> Any:
    key = c.key()
    result = c.chain(
        c.t.wait_for.s(key, 1), c.t.ident.s(), c.t.note.s(key=f"{key}-end")
    ).apply_async()
    result.parent.revoke()
    c.t.note.delay(1, key=key)
    middle = c.outcome(result.parent)
    c.settled()
    return middle[:2], c.notes(f"{key}-end", 0)


@behaves(("FAILURE", "ChordError"), not_eager=True)
def chord_with_a_revoked_part(c: Side) -> Any:
    key = c.key()
    body = c.t.total.s().on_error(c.t.errback_old.s(key=key))
    chord = c.chord([c.t.add.s(1, 1), c.t.add.s(2, 2).set(countdown=1)], body)
    result = chord()
    result.parent[1].revoke()
    return c.outcome(result, timeout=4)[:2]


@behaves((True, 3), eager=("returned", 1))
def graph_of_a_chain(c: Side) -> Any:
    result = c.chain(c.t.add.s(1, 1), c.t.add.s(1), c.t.add.s(1))()
    result.get(**SOON)
    first = result.parent.parent
    if c.eager:
        return c.raised(lambda: len(list(first.iterdeps())))
    return [n.id for _, n in first.iterdeps()] == [first.id, result.parent.id, result.id], len(
        first.graph
    )


@behaves(([4, 8], 8), not_eager=True)
def collect_walks_children(c: Side) -> Any:
    result = c.t.sender.delay(4)
    return [v for _, v in result.collect(timeout=10)], result.get_leaf()


@behaves([8], eager=[])
def children_of_a_task_that_sent_one(c: Side) -> Any:
    result = c.t.sender.delay(4)
    result.get(**SOON)
    return [child.get(**SOON) for child in result.children or []]


# -- chords -------------------------------------------------------------------------------------


@behaves(("SUCCESS", 20))
def chord_call_form(c: Side) -> Any:
    return c.outcome(c.chord(c.t.add.s(i, i) for i in range(5))(c.t.total.s()))


@behaves(("SUCCESS", 20))
def chord_two_arguments(c: Side) -> Any:
    return c.outcome(c.chord([c.t.add.s(i, i) for i in range(5)], c.t.total.s())())


@behaves(("SUCCESS", [0, 1, 2]))
def chord_results_in_order_of_parts(c: Side) -> Any:
    key = c.key()
    parts = [c.t.late_note.s(i, key, 0.05 * (3 - i)) for i in range(3)]
    return c.outcome(c.chord(parts, c.t.ident.s())())


@behaves(("SUCCESS", [2]))
def chord_of_one(c: Side) -> Any:
    return c.outcome(c.chord([c.t.add.s(1, 1)], c.t.ident.s())())


@behaves(("SUCCESS", [[[]], {}]))
def chord_empty_header(c: Side) -> Any:
    return c.outcome(c.chord([], c.t.pack.s())())


@behaves(("SUCCESS", [["alone"], {}]))
def chord_immutable_body(c: Side) -> Any:
    return c.outcome(c.chord([c.t.add.s(1, 1)], c.t.pack.si("alone"))())


@behaves(("SUCCESS", [[[2, 4], "more"], {"k": 1}]))
def chord_body_with_arguments(c: Side) -> Any:
    return c.outcome(c.chord([c.t.add.s(1, 1), c.t.add.s(2, 2)], c.t.pack.s("more", k=1))())


@behaves(("SUCCESS", 16))
def chord_body_is_a_chain(c: Side) -> Any:
    return c.outcome(c.chord([c.t.add.s(1, 1), c.t.add.s(2, 2)], c.t.total.s() | c.t.add.s(10))())


@behaves([6, [2, 4]])
def chord_body_is_a_group(c: Side) -> Any:
    result = c.chord([c.t.add.s(1, 1), c.t.add.s(2, 2)], c.group(c.t.total.s(), c.t.ident.s()))()
    return result.get(**SOON)


@behaves(("SUCCESS", 12))
def chord_body_is_a_chord(c: Side) -> Any:
    inner = c.chord([c.t.total.s(), c.t.total.s()], c.t.total.s())
    return c.outcome(c.chord([c.t.add.s(1, 1), c.t.add.s(2, 2)], inner)())


@behaves(("SUCCESS", 60))
def chord_header_has_chains(c: Side) -> Any:
    return c.outcome(c.chord([c.t.add.s(i, 1) | c.t.mul.s(10) for i in range(3)], c.t.total.s())())


@behaves(InAnyOrder(("SUCCESS", [2, 4, 6])), eager=("SUCCESS", [2, 4, 6]))
def chord_header_has_a_group(c: Side) -> Any:
    header = [c.group(c.t.add.s(1, 1), c.t.add.s(2, 2)), c.t.add.s(3, 3)]
    return c.outcome(c.chord(header, c.t.ident.s())())


@behaves(("SUCCESS", [6, 6]))
def chord_header_has_a_chord(c: Side) -> Any:
    inner = c.chord([c.t.add.s(1, 1), c.t.add.s(2, 2)], c.t.total.s())
    return c.outcome(c.chord([inner, c.t.add.s(3, 3)], c.t.ident.s())())


@behaves(("SUCCESS", [[3, 4], 6]))
def chord_header_has_a_chain_that_ends_in_a_group(c: Side) -> Any:
    inner = c.t.add.s(1, 1) | c.group(c.t.add.s(1), c.t.add.s(2))
    return c.outcome(c.chord([inner, c.t.add.s(3, 3)], c.t.ident.s())())


@behaves(("_chord", ("SUCCESS", 16)))
def chord_then_task(c: Side) -> Any:
    sig = c.chord([c.t.add.s(1, 1), c.t.add.s(2, 2)], c.t.total.s()) | c.t.add.s(10)
    return type(sig).__name__, c.outcome(sig())


@behaves(("_chain", ("SUCCESS", 7)))
def task_then_chord(c: Side) -> Any:
    sig = c.t.add.s(1, 1) | c.chord([c.t.add.s(1), c.t.add.s(2)], c.t.total.s())
    return type(sig).__name__, c.outcome(sig())


@behaves(("SUCCESS", 117))
def chain_group_chain_group_chain(c: Side) -> Any:
    sig = c.chain(
        c.t.add.s(1, 1),
        c.group(c.t.add.s(1), c.t.add.s(2)),
        c.t.total.s(),
        c.group(c.t.add.s(1), c.t.add.s(2)),
        c.t.total.s(),
        c.t.add.s(100),
    )
    return c.outcome(sig())


@behaves(InAnyOrder(("SUCCESS", [[7, 7, 10], 7])), eager=("SUCCESS", [[7, 7, 10], 7]))
def deep_nesting(c: Side) -> Any:
    t = c.t
    leaf = c.chain(t.add.s(1, 1), c.group(t.add.s(1), t.add.s(2)), t.total.s())
    middle = c.chord([leaf, c.group(leaf.clone(), t.add.s(5, 5))], t.ident.s())
    return c.outcome(c.chain(c.group(middle, leaf.clone()), t.ident.s())())


@behaves(("SUCCESS", [[[1, 2], {}], [[1, 3], {}]]))
def chord_arguments_of_the_call_reach_the_header(c: Side) -> Any:
    return c.outcome(c.chord([c.t.pack.s(2), c.t.pack.s(3)], c.t.ident.s()).apply_async((1,)))


@behaves(("GroupResult", [2, 4]), eager=("NoneType", None))
def chord_result_parent_is_the_header(c: Side) -> Any:
    result = c.chord([c.t.add.s(1, 1), c.t.add.s(2, 2)], c.t.total.s())()
    result.get(**SOON)
    parent = result.parent
    return type(parent).__name__, parent and parent.get(**SOON)


@behaves(True)
def chord_frozen_body_id(c: Side) -> Any:
    body = c.t.total.s()
    body.freeze("body-" + c.key())
    result = c.chord([c.t.add.s(1, 1)], body)()
    result.get(**SOON)
    return result.id.startswith("body-")


@behaves(True, eager=False)
def chord_task_id(c: Side) -> Any:
    result = c.chord([c.t.add.s(1, 1)], c.t.total.s()).apply_async(task_id="chord-" + c.key())
    result.get(**SOON)
    return result.id.startswith("chord-")


@behaves(("SUCCESS", 9900))
def chord_generator_header(c: Side) -> Any:
    return c.outcome(c.chord((c.t.add.s(i, i) for i in range(100)), c.t.total.s())())


@behaves(("SUCCESS", 6))
def chord_applied(c: Side) -> Any:
    return c.outcome(c.chord([c.t.add.s(1, 1), c.t.add.s(2, 2)], c.t.total.s()).apply())


@behaves([[6]])
def chord_link_is_the_bodys(c: Side) -> Any:
    key = c.key()
    chord = c.chord([c.t.add.s(1, 1), c.t.add.s(2, 2)], c.t.total.s())
    chord.link(c.t.note.s(key=key))
    chord().get(**SOON)
    return c.notes(key, 1)


@behaves([[True, 0, True], [True, 1, True]], eager=[[False, None, False], [False, None, False]])
def chord_part_facts(c: Side) -> Any:
    header = [c.t.facts.s(), c.t.facts.s()]
    value = c.outcome(c.chord(header, c.t.ident.s())())[1]
    return [[f["group"], f["group_index"], f["chord"]] for f in value]


# -- errors in chords ---------------------------------------------------------------------------


@behaves((("FAILURE", "ChordError"), True, []), eager=("ValueError", []))
def chord_with_a_failing_part(c: Side) -> Any:
    key = c.key()
    result = c.chord([c.t.add.s(1, 1), c.t.fail.s()], c.t.note.s(key=key))
    if c.eager:
        return c.raised(lambda: result().get(**SOON)), c.notes(key, 0)
    outcome = c.outcome(result())
    c.settled()
    return outcome[:2], "boom" in outcome[2], c.notes(key, 0)


@behaves([["new", True, "ChordError"]], eager=("ValueError", []))
def chord_errback_of_the_body(c: Side) -> Any:
    key = c.key()
    body = c.t.total.s().on_error(c.t.errback_new.s(key=key))
    chord = c.chord([c.t.fail.s(), c.t.add.s(1, 1)], body)
    if c.eager:
        return c.raised(chord), c.notes(key, 0)
    c.outcome(chord())
    return [note[:3] for note in c.notes(key, 1)]


@behaves(True, eager=0)
def chord_errback_old_form_gets_the_bodys_id(c: Side) -> Any:
    key = c.key()
    body = c.t.total.s().on_error(c.t.errback_id.s(key=key))
    if c.eager:
        c.raised(c.chord([c.t.fail.s(), c.t.add.s(1, 1)], body))
        return len(c.notes(key, 0))
    result = c.chord([c.t.fail.s(), c.t.add.s(1, 1)], body)()
    c.outcome(result)
    c.notes(key, 1)
    c.settled()
    return c.notes(key, 1) == [result.id]


@behaves([["old", True]], eager=("ValueError", []))
def chord_on_error(c: Side) -> Any:
    key = c.key()
    chord = c.chord([c.t.fail.s(), c.t.add.s(1, 1)], c.t.total.s())
    chord.on_error(c.t.errback_old.s(key=key))
    if c.eager:
        return c.raised(chord), c.notes(key, 0)
    c.outcome(chord())
    c.notes(key, 1)
    c.settled()
    return c.notes(key, 1)


@behaves([["old", True]], eager=("ValueError", []))
def chord_errback_once_for_two_failures(c: Side) -> Any:
    key = c.key()
    body = c.t.total.s().on_error(c.t.errback_old.s(key=key))
    chord = c.chord([c.t.fail.s(), c.t.fail.s(), c.t.ident.s(1)], body)
    if c.eager:
        return c.raised(chord), c.notes(key, 0)
    c.outcome(chord())
    c.notes(key, 1)
    c.settled()
    return c.notes(key, 1)


@behaves((("FAILURE", "ValueError", "boom"), [["old", True]]))
def chord_body_fails(c: Side) -> Any:
    key = c.key()
    body = c.t.fail.s().on_error(c.t.errback_old.s(key=key))
    result = c.chord([c.t.add.s(1, 1), c.t.add.s(2, 2)], body)
    outcome = c.outcome(result())
    c.settled()
    return outcome, c.notes(key, 0)


@behaves("ValueError")
def chord_with_two_of_two_failing(c: Side) -> Any:
    chord = c.chord([c.t.fail.s(), c.t.fail.s(text="other")], c.t.total.s())
    return c.raised(lambda: chord().get(**SOON))


@behaves(("FAILURE", "ChordError"), eager="ValueError")
def chord_with_a_failing_chain_in_its_header(c: Side) -> Any:
    chord = c.chord([c.t.add.s(1, 1), c.t.fail.s() | c.t.ident.s()], c.t.total.s())
    if c.eager:
        return c.raised(lambda: chord().get(**SOON))
    return c.outcome(chord(), timeout=3)[:2]


@behaves(("ValueError", []))
def chain_after_a_failed_chord(c: Side) -> Any:
    key = c.key()
    sig = c.chain(c.group(c.t.add.s(1, 1), c.t.fail.s()), c.t.total.s(), c.t.note.s(key=key))
    raised = c.raised(lambda: sig().get(timeout=3))
    return raised, c.notes(key, 0)


@behaves(("FAILURE", "ChordError"), eager="SUCCESS")
def chord_with_an_unserialisable_part(c: Side) -> Any:
    chord = c.chord([c.t.add.s(1, 1), c.t.unserialisable.s()], c.t.pack.s())
    if c.eager:
        return c.outcome(chord())[0]
    return c.outcome(chord(), timeout=3)[:2]


@behaves(("waits for ever",), not_eager=True)
def chord_with_an_unknown_part(c: Side) -> Any:
    chord = c.chord([c.t.add.s(1, 1), c.signature("c.nowhere", app=c.app)], c.t.pack.s())
    return c.outcome(chord(), timeout=2)[:2]


@behaves(("waits for ever",), eager=("SUCCESS", [[[2, None]], {}]))
def chord_with_an_ignored_part(c: Side) -> Any:
    return c.outcome(c.chord([c.t.add.s(1, 1), c.t.ignored.s()], c.t.pack.s())(), timeout=2)


@behaves(
    ("FAILURE", "ChordError", "Dependency <id> raised reject requeue=False: no"),
    eager=("SUCCESS", [[[2, None]], {}]),
)
def chord_with_a_rejected_part(c: Side) -> Any:
    return c.outcome(c.chord([c.t.add.s(1, 1), c.t.rejected.s()], c.t.pack.s())(), timeout=2)


@behaves(("SUCCESS", [2, 4]))
def chord_part_that_ignores_its_result(c: Side) -> Any:
    part = c.t.add.s(2, 2).set(ignore_result=True)
    return c.outcome(c.chord([c.t.add.s(1, 1), part], c.t.ident.s())(), timeout=2)


# -- what tasks do ------------------------------------------------------------------------------


@behaves((("SUCCESS", 12), [["try", 0, 2], ["try", 1, 2]]))
def retry_in_a_chain(c: Side) -> Any:
    key = c.key()
    result = c.chain(c.t.add.s(1, 1), c.t.retry_once.s(key=key), c.t.add.s(10))()
    return c.outcome(result), c.notes(key, 2)


@behaves(("SUCCESS", [1, 2, 3]))
def retry_in_a_chord(c: Side) -> Any:
    chord = c.chord([c.t.retry_once.s(1), c.t.add.s(1, 1), c.t.retry_once.s(3)], c.t.ident.s())
    return c.outcome(chord())


@behaves(("ValueError", []))
def retries_used_up_in_a_chain(c: Side) -> Any:
    key = c.key()
    result = c.chain(c.t.retry_for_ever.s(), c.t.note.s(key=key))
    raised = c.raised(lambda: result().get(**SOON))
    return raised, c.notes(key, 0)


@behaves("ValueError")
def retries_used_up_in_a_chord(c: Side) -> Any:
    chord = c.chord([c.t.retry_for_ever.s(), c.t.add.s(1, 1)], c.t.ident.s())
    return c.raised(lambda: chord().get(**SOON))


@behaves(("SUCCESS", [2, 4]))
def retry_in_the_body_of_a_chord(c: Side) -> Any:
    return c.outcome(c.chord([c.t.add.s(1, 1), c.t.add.s(2, 2)], c.t.retry_once.s())())


@behaves([["old", True]])
def retry_keeps_the_errback(c: Side) -> Any:
    key = c.key()
    result = c.t.retry_for_ever.apply_async(link_error=c.t.errback_old.s(key=key))
    c.outcome(result)
    c.notes(key, 1)
    c.settled()
    return c.notes(key, 1)


@behaves(("PENDING", []), eager=("IGNORED", []))
def ignore_in_a_chain(c: Side) -> Any:
    key = c.key()
    result = c.chain(c.t.ignored.s(), c.t.note.si(1, key=key)).apply_async()
    c.settled()
    return result.parent.state if result.parent else result.state, c.notes(key, 0)


@behaves(("FAILURE", []), eager=("REJECTED", []))
def reject_in_a_chain(c: Side) -> Any:
    key = c.key()
    result = c.chain(c.t.rejected.s(), c.t.note.si(1, key=key)).apply_async()
    c.settled()
    return result.parent.state if result.parent else result.state, c.notes(key, 0)


@behaves(("SUCCESS", 3), eager=("FAILURE", "RuntimeError"))
def replace_keeps_the_id(c: Side) -> Any:
    return c.outcome(c.t.become_add.delay(1, 2))[:2]


@behaves(("SUCCESS", 70))
def replace_in_a_chain(c: Side) -> Any:
    return c.outcome(c.chain(c.t.add.s(1, 1), c.t.become_add.s(5), c.t.mul.s(10))())


@behaves(("SUCCESS", [3, 2]))
def replace_in_a_chord(c: Side) -> Any:
    chord = c.chord([c.t.become_add.s(1, 2), c.t.add.s(1, 1)], c.t.ident.s())
    return c.outcome(chord())


@behaves(("SUCCESS", 30), eager=("FAILURE", "RuntimeError"))
def replace_with_a_chain(c: Side) -> Any:
    into = c.chain(c.t.add.s(1, 2), c.t.mul.s(10))
    return c.outcome(c.t.become.delay(into=into))[:2]


@behaves(("SUCCESS", 35))
def replace_with_a_chain_in_a_chain(c: Side) -> Any:
    into = c.chain(c.t.add.s(1, 2), c.t.mul.s(10))
    return c.outcome(c.chain(c.t.become.si(into=into), c.t.add.s(5))())


@behaves(("SUCCESS", [2, 3]), eager=("FAILURE", "RuntimeError"))
def replace_with_a_group(c: Side) -> Any:
    return c.outcome(c.t.become_group.delay(1))[:2]


@behaves(("SUCCESS", 5))
def replace_with_a_group_in_a_chain(c: Side) -> Any:
    return c.outcome(c.chain(c.t.become_group.s(1), c.t.total.s())())


@behaves(("SUCCESS", [[2, 3], 2]))
def replace_with_a_group_in_a_chord(c: Side) -> Any:
    return c.outcome(c.chord([c.t.become_group.s(1), c.t.add.s(1, 1)], c.t.ident.s())())


@behaves(("SUCCESS", 11))
def replace_with_a_chord(c: Side) -> Any:
    into = c.chord([c.t.add.s(1, 1), c.t.add.s(2, 2)], c.t.total.s())
    return c.outcome(c.chain(c.t.become.si(into=into), c.t.add.s(5))())


@behaves(("SUCCESS", []), eager=("FAILURE", "RuntimeError"))
def replace_with_an_empty_group(c: Side) -> Any:
    return c.outcome(c.t.become_empty.delay(), timeout=2)[:2]


@behaves(
    (("FAILURE", "ValueError"), [["old", True]]),
    eager=(("FAILURE", "RuntimeError"), [["old", True], ["old", True]]),
)
def replace_with_a_task_that_fails(c: Side) -> Any:
    key = c.key()
    result = c.t.become_failing.apply_async(link_error=c.t.errback_old.s(key=key))
    outcome = c.outcome(result)[:2]
    c.notes(key, 1)
    c.settled()
    return outcome, c.notes(key, 1)


@behaves([[3]])
def replace_keeps_links(c: Side) -> Any:
    key = c.key()
    c.t.become_add.apply_async((1, 2), link=c.t.note.s(key=key))
    return c.notes(key, 1)


@behaves(("SUCCESS", [1, 2, 100]), eager="ValueError")
def add_to_chord(c: Side) -> Any:
    chord = c.chord([c.t.grow.s(1), c.t.add.s(1, 1)], c.t.ident.s())
    if c.eager:
        return c.raised(chord)
    state, value = c.outcome(chord())
    return state, sorted(value)


@behaves(("FAILURE", "ValueError"))
def add_to_chord_outside_one(c: Side) -> Any:
    return c.outcome(c.t.grow.delay(1))[:2]


@behaves(
    (
        "SUCCESS",
        {
            "chain": 0,
            "callbacks": 1,
            "errbacks": 1,
            "chord": False,
            "group": False,
            "group_index": None,
        },
    )
)
def task_facts(c: Side) -> Any:
    return c.outcome(c.t.facts.apply_async(link=c.t.ident.s(), link_error=c.t.errback_old.s()))


@behaves(("SUCCESS", [1, 2, 3]))
def join_inside_a_task_with_leave(c: Side) -> Any:
    return c.outcome(c.t.joiner.delay(1))


@behaves(("FAILURE", "RuntimeError"))
def join_inside_a_task_without_leave(c: Side) -> Any:
    return c.outcome(c.t.forbidden_joiner.delay(1))[:2]


# -- stamping -----------------------------------------------------------------------------------


@behaves(
    ("SUCCESS", [{"shop": "north"}, ["shop"]]), eager=("SUCCESS", [{"shop": ["north"]}, ["shop"]])
)
def stamp_of_a_task(c: Side) -> Any:
    sig = c.t.stamps.si()
    sig.stamp(shop="north")
    return c.outcome(sig.apply_async())


@behaves(
    [[{"shop": "north"}, ["shop"]], [{"shop": "north"}, ["shop"]]],
    eager=[[{"shop": ["north"]}, ["shop"]], [{"shop": ["north"]}, ["shop"]]],
)
def stamp_of_a_group_and_a_chain(c: Side) -> Any:
    group = c.group(c.t.stamps.si(), c.chain(c.t.ident.s(1), c.t.stamps.si()))
    group.stamp(shop="north")
    return group().get(**SOON)


@behaves(
    ("SUCCESS", [[[[{"shop": "north"}, ["shop"]]]], {}]),
    eager=("SUCCESS", [[[[{"shop": ["north"]}, ["shop"]]]], {}]),
)
def stamp_of_a_chord(c: Side) -> Any:
    chord = c.chord([c.t.stamps.si()], c.t.pack.s())
    chord.stamp(shop="north")
    return c.outcome(chord())


@behaves(
    (("SUCCESS", [{"shop": "c.stamps"}, ["shop"]]), [{"shop": "c.stamps"}, ["shop"]]),
    eager=(("SUCCESS", [{"shop": ["c.stamps"]}, ["shop"]]), [{"shop": ["c.stamps"]}, ["shop"]]),
)
def stamp_by_a_visitor(c: Side) -> Any:
    class Visitor(c.canvas.StampingVisitor):  # type: ignore[name-defined,misc]
        def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
            return {"shop": sig.task, "plain": True, "stamped_headers": ["shop"]}

    chain = c.chain(c.t.stamps.si(), c.t.stamps.si())
    chain.stamp(Visitor())
    result = chain()
    return c.outcome(result), result.parent.get()


@behaves(
    [
        "chain start",
        "callback c.ident",
        "signature c.ident",
        "errback c.errback_old",
        "signature c.errback_old",
        "signature c.add",
        "header start",
        "group start",
        "signature c.mul",
        "signature c.mul",
        "header end",
        "body",
        "signature c.total",
        "chain end",
    ]
)
def visitor_sees_in_this_order(c: Side) -> Any:
    seen: list[str] = []

    class Visitor(c.canvas.StampingVisitor):  # type: ignore[name-defined,misc]
        def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
            seen.append(f"signature {sig.task}")
            return {}

        def on_group_start(self, sig: Any, **headers: Any) -> dict[str, Any]:
            seen.append("group start")
            return super().on_group_start(sig, **headers) or {}

        def on_group_end(self, sig: Any, **headers: Any) -> None:
            seen.append("group end")

        def on_chain_start(self, sig: Any, **headers: Any) -> dict[str, Any]:
            seen.append("chain start")
            return super().on_chain_start(sig, **headers) or {}

        def on_chain_end(self, sig: Any, **headers: Any) -> None:
            seen.append("chain end")

        def on_chord_header_start(self, sig: Any, **headers: Any) -> dict[str, Any]:
            seen.append("header start")
            return super().on_chord_header_start(sig, **headers) or {}

        def on_chord_header_end(self, sig: Any, **headers: Any) -> None:
            seen.append("header end")

        def on_chord_body(self, sig: Any, **headers: Any) -> dict[str, Any]:
            seen.append("body")
            return {}

        def on_callback(self, callback: Any, **headers: Any) -> dict[str, Any]:
            seen.append(f"callback {callback.task}")
            return {}

        def on_errback(self, errback: Any, **headers: Any) -> dict[str, Any]:
            seen.append(f"errback {errback.task}")
            return {}

    first = c.t.add.s(1, 1)
    first.link(c.t.ident.s())
    first.link_error(c.t.errback_old.s())
    c.chain(first, c.group(c.t.mul.s(1), c.t.mul.s(2)), c.t.total.s()).stamp(Visitor())
    return seen


@behaves(("SUCCESS", ["north", "south"], ["shop"]))
def stamps_append(c: Side) -> Any:
    sig = c.t.stamps.si()
    sig.stamp(shop="north")
    sig.stamp(shop="south", append_stamps=True)
    state, (stamps, names) = c.outcome(sig.apply_async())
    return state, sorted(stamps["shop"]), names


@behaves((["shop"], "north"))
def stamps_reach_links(c: Side) -> Any:
    sig = c.t.ident.s(1)
    sig.link(c.t.stamps.s())
    sig.stamp(shop="north")
    link = sig.options["link"][0]
    return link["options"].get("stamped_headers"), link["options"].get("shop")


# -- maps and chunks ----------------------------------------------------------------------------


@behaves(("SUCCESS", [1, 2, 3]))
def map_runs_in_one_task(c: Side) -> Any:
    return c.outcome(c.t.ident.map([1, 2, 3]).apply_async())


@behaves(("SUCCESS", [3, 7]))
def starmap_runs_in_one_task(c: Side) -> Any:
    return c.outcome(c.t.add.starmap([(1, 2), (3, 4)]).apply_async())


@behaves(("FAILURE", "ValueError", "boom"))
def map_with_a_failure(c: Side) -> Any:
    return c.outcome(c.t.fail.map([1, 2]).apply_async())


@behaves(("GroupResult", [[0, 2], [4, 6], [8]]))
def chunks_are_starmaps(c: Side) -> Any:
    result = c.t.add.chunks([(i, i) for i in range(5)], 2)()
    return type(result).__name__, result.get(**SOON)


@behaves(("group", 3, ["celery.starmap", "celery.starmap", "celery.starmap"]))
def chunks_as_a_group(c: Side) -> Any:
    group = c.t.add.chunks([(i, i) for i in range(5)], 2).group()
    return type(group).__name__, len(group.tasks), [s.task for s in group.tasks]


@behaves(("SUCCESS", [[0, 2], [4, 6]]))
def chunks_in_a_chord(c: Side) -> Any:
    header = c.t.add.chunks([(i, i) for i in range(4)], 2).group()
    return c.outcome(c.chord(header, c.t.ident.s())())


@behaves(("[c.ident(x) for x in [1, 2]]", "[c.add(*x) for x in [(1, 2)]]"))
def map_repr(c: Side) -> Any:
    return (
        repr(c.t.ident.map([1, 2])),
        repr(c.t.add.starmap([(1, 2)])),
    )


@behaves(2)
def invert_operator_waits(c: Side) -> Any:
    return ~c.t.add.s(1, 1)
