"""Workflows through a worker: errors, retries, replacement, revocation, limits and size."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.canvas import StampingVisitor, chain, chord, group
from celeriac.kernel.errors import (
    ChordError,
    Ignore,
    ImproperlyConfigured,
    Reject,
    TaskRevokedError,
)
from celeriac.kernel.wire import unpack
from celeriac.testing import TaskKit


class Tasks:
    """The tasks of these tests, and what they noted."""

    def __init__(self, app: Celeriac) -> None:
        self.seen: list[Any] = []
        self.add = app.task(name="add")(lambda x, y=0: x + y)
        self.show = app.task(name="show")(lambda *args: list(args))
        self.total = app.task(name="total")(lambda values: sum(values))

        @app.task(name="fail", throws=(ValueError,))
        def fail(*args: Any) -> None:
            raise ValueError("no")

        @app.task(name="old")
        def old(task_id: str) -> None:
            self.seen.append(("old", task_id))

        @app.task(name="new")
        def new(request: Any, exc: Any, traceback: Any) -> None:
            self.seen.append(("new", request.id, type(exc).__name__))

        self.fail, self.old, self.new = fail, old, new


@pytest.fixture
def t(app: Celeriac) -> Tasks:
    return Tasks(app)


def test_a_failing_step_ends_the_chain(kit: TaskKit, t: Tasks) -> None:
    flow = (t.add.s(1, 1) | t.fail.s() | t.add.s(1) | t.add.s(2)).on_error(t.old.s())
    result = flow.delay()
    kit.run_until_empty()
    assert t.seen == [("old", result.parent.parent.id)]
    with pytest.raises(ValueError, match="no"):
        result.get()
    assert result.state == result.parent.state == "FAILURE"
    assert result.parent.parent.parent.get() == 2


def test_errbacks_old_and_new(kit: TaskKit, t: Tasks) -> None:
    result = t.fail.s().on_error(t.old.s()).on_error(t.new.s()).delay()
    kit.run_until_empty()
    assert t.seen == [("new", result.id, "ValueError"), ("old", result.id)]


def test_a_failing_part_fails_the_body_and_calls_its_errbacks_once(kit: TaskKit, t: Tasks) -> None:
    body = t.total.s().on_error(t.old.s()).on_error(t.new.s())
    result = chord([t.add.s(1, 1), t.fail.s(), t.fail.s()], body).delay()
    kit.run_until_empty()
    assert result.state == "FAILURE"
    failed = result.parent.results[1].id
    with pytest.raises(ChordError, match=f"Dependency {failed} raised ValueError"):
        result.get(follow_parents=False)
    assert t.seen == [("new", result.id, "ChordError"), ("old", result.id)]
    kit.assert_not_sent(t.total, args=[[2]])


def test_a_failing_header_in_a_chain_fails_what_follows(kit: TaskKit, t: Tasks) -> None:
    flow = group(t.fail.s(), t.add.s(1)) | t.total.s() | t.add.s(1) | group(t.add.s(1), t.add.s(2))
    result = flow.delay()
    kit.run_until_empty()
    assert [one.state for one in result.results] == ["FAILURE", "FAILURE"]


def test_a_failing_inner_chord_fails_the_outer_one(kit: TaskKit, t: Tasks) -> None:
    inner = chord([t.fail.s()], t.total.s())
    result = chord([inner, t.add.s(1, 1)], t.total.s().on_error(t.old.s())).delay()
    kit.run_until_empty()
    assert result.state == "FAILURE"
    assert t.seen == [("old", result.id)]


def test_collect_hands_over_results_and_exceptions(app: Celeriac, kit: TaskKit, t: Tasks) -> None:
    kinds = app.task(name="kinds")(lambda values: [type(value).__name__ for value in values])
    result = chord([t.add.s(1, 1), t.fail.s()], kinds.s(), on_error="collect").delay()
    assert result.get(follow_parents=False) == ["int", "ValueError"]
    with pytest.raises(ValueError, match="on_error"):
        chord([], t.total.s(), on_error="ignore")


def test_ignore_and_reject_fill_their_slot(app: Celeriac, kit: TaskKit, t: Tasks) -> None:
    @app.task(name="ignores")
    def ignores() -> None:
        raise Ignore

    @app.task(name="rejects")
    def rejects() -> None:
        raise Reject("no")

    assert chord([ignores.s(), t.add.s(1, 1)], t.show.s()).delay().get() == [[None, 2]]
    result = chord([rejects.s() | t.add.s(1), t.add.s(1, 1)], t.show.s()).delay()
    kit.run_until_empty(failures="keep")
    assert result.state == "FAILURE"


def test_an_expired_part_and_an_unknown_one_fill_their_slots(
    kit: TaskKit, t: Tasks, app: Celeriac
) -> None:
    late = chord([t.add.s(1, 1).set(expires=10), t.add.s(1)], t.total.s()).delay()
    kit.clock.advance(11)
    kit.run_until_empty(failures="keep")
    assert late.state == "FAILURE"
    unknown = app.signature("who.knows") | t.add.s(1)
    result = chord([unknown, t.add.s(1)], t.total.s()).delay()
    ends = kit.clock.time() + app.conf.task_unknown_patience + 100
    while kit.clock.time() < ends:
        kit.run_until_empty(failures="keep")
        kit.clock.advance(10)
    assert result.state == "FAILURE"


def test_a_part_that_kills_its_workers_fills_its_slot(kit: TaskKit, t: Tasks) -> None:
    result = chord([t.add.s(1, 1), t.add.s(2, 2) | t.show.s()], t.total.s()).delay()
    kit.crash_before_settle(t.show, times=100)
    kit.run_until_empty(failures="keep")
    assert result.state == "FAILURE"
    with pytest.raises(ChordError, match="WorkerLostError"):
        result.get(follow_parents=False)


def test_a_revoked_part_and_a_revoked_chain_end(kit: TaskKit, t: Tasks, app: Celeriac) -> None:
    result = chord([t.add.s(1, 1), t.add.s(2, 2)], t.total.s()).delay()
    app.revoke([result.parent.results[0].id])
    kit.run_until_empty()
    assert result.state == "FAILURE"
    last = (t.add.s(1, 1) | t.add.s(1) | t.add.s(2)).delay()
    app.revoke([last.parent.parent.id])
    kit.run_until_empty()
    assert last.state == last.parent.state == "REVOKED"
    with pytest.raises(TaskRevokedError):
        last.get()


def test_retries_in_a_chain_and_in_a_chord(app: Celeriac, kit: TaskKit, t: Tasks) -> None:
    @app.task(name="third", bind=True, default_retry_delay=0)
    def third(self: Any, value: Any) -> Any:
        if self.request.retries < 2:
            raise self.retry()
        return value

    @app.task(name="changed", bind=True, default_retry_delay=0)
    def changed(self: Any, values: Any, more: int = 0) -> Any:
        if not self.request.retries:
            raise self.retry(kwargs={"more": 5})
        return [*values, more]

    flow = chord([third.s(1), t.add.s(1, 1) | third.s()], changed.s()) | third.s()
    assert flow.delay().get() == [1, 2, 5]


def test_an_ignored_result_still_reaches_the_body(kit: TaskKit, t: Tasks) -> None:
    result = chord([t.add.s(1, 1).set(ignore_result=True), t.add.s(2)], t.show.s()).delay()
    assert result.get(follow_parents=False) == [[2, 2]]


def test_an_unserialisable_result_in_the_middle_fails_the_rest(
    app: Celeriac, kit: TaskKit, t: Tasks
) -> None:
    odd = app.task(name="odd")(lambda *args: object())
    result = (odd.s() | t.add.s(1)).delay()
    kit.run_until_empty(failures="keep")
    assert result.state == "FAILURE"


@pytest.mark.parametrize("how", ["task", "chain", "group", "chord", "chain of group"])
def test_replace(app: Celeriac, kit: TaskKit, t: Tasks, how: str) -> None:
    @app.task(name="swap", bind=True)
    def swap(self: Any) -> Any:
        new = {
            "task": lambda: t.add.s(1, 1),
            "chain": lambda: t.add.s(1, 1) | t.add.s(2),
            "group": lambda: group(t.add.s(1, 1), t.add.s(2, 2)),
            "chord": lambda: chord([t.add.s(1, 1), t.add.s(2, 2)], t.total.s()),
            "chain of group": lambda: t.add.s(1, 1) | group(t.add.s(1), t.add.s(2)),
        }[how]()
        return self.replace(new)

    wanted = {"task": 2, "chain": 4, "group": [2, 4], "chord": 6, "chain of group": [3, 4]}[how]
    result = swap.delay()
    assert result.get() == wanted
    assert swap.apply().get() == wanted
    assert (swap.s() | t.show.s(9)).delay().get() == [wanted, 9]
    assert chord([swap.s(), t.add.s(1, 1)], t.show.s()).delay().get() == [[wanted, 2]]


def test_what_replaces_a_task_calls_its_links(app: Celeriac, kit: TaskKit, t: Tasks) -> None:
    @app.task(name="swap", bind=True)
    def swap(self: Any, sig: Any) -> Any:
        return self.replace(app.signature(sig))

    swap.apply_async((t.add.s(1, 1) | t.add.s(1),), link=t.show.s("linked"))
    kit.run_until_empty()
    kit.assert_sent(t.show, args=[3, "linked"], times=1)
    result = swap.apply_async((t.fail.s(),), link_error=t.old.s())
    kit.run_until_empty()
    assert t.seen == [("old", result.id)]


def test_replace_refuses_what_cannot_be(app: Celeriac, kit: TaskKit, t: Tasks) -> None:
    with pytest.raises(ImproperlyConfigured, match="empty chain"):
        t.add.replace(chain())


def test_add_to_chord(app: Celeriac, kit: TaskKit, t: Tasks) -> None:
    @app.task(name="more", bind=True)
    def more(self: Any) -> str:
        assert self.request.chord
        self.add_to_chord(t.add.s(20, 1))
        self.add_to_chord(t.add.s(1, 1) | t.add.s(1))
        return "more"

    result = chord([more.s(), t.add.s(1, 1)], t.show.s()).delay()
    assert result.get() == [["more", 2, 21, 3]]
    with pytest.raises(ValueError, match="no chord"):
        t.add.add_to_chord(t.add.s(1))


def test_max_concurrency(app: Celeriac, kit: TaskKit, t: Tasks) -> None:
    result = group((t.add.s(n, n) for n in range(100)), max_concurrency=3).delay()
    assert sum(count.ready for count in kit.broker.count(()).values()) == 3
    most = 0
    while kit.run_one() is not None:
        most = max(most, sum(count.ready for count in kit.broker.count(()).values()))
    assert most <= 3
    assert result.get() == [2 * n for n in range(100)]


def test_max_concurrency_goes_on_behind_a_failure(kit: TaskKit, t: Tasks) -> None:
    soon = kit.clock.now() + dt.timedelta(seconds=1)
    parts = [t.fail.s(), t.add.s(1, 1) | t.add.s(1), t.add.s(5).set(expires=soon), t.add.s(7, 1)]
    size = kit.app.task(name="size")(lambda values: len(values))
    result = chord(group(parts, max_concurrency=1), size.s(), on_error="collect").delay()
    kit.clock.advance(2)
    kit.run_until_empty(failures="keep")
    values = result.parent.results
    assert [value.state for value in values] == ["FAILURE", "SUCCESS", "REVOKED", "SUCCESS"]
    assert result.get(follow_parents=False) == 4


def test_resume(app: Celeriac, kit: TaskKit, t: Tasks) -> None:
    broken = [True]

    @app.task(name="shaky", throws=(OSError,))
    def shaky(value: int) -> int:
        if broken:
            raise OSError("away")
        return value * 10

    flow = t.add.s(1, 1) | shaky.s() | t.add.s(1)
    result = flow.delay()
    kit.run_until_empty()
    assert result.state == "FAILURE"
    broken.clear()
    again = flow.resume()
    assert again.get() == 21
    assert app.AsyncResult(result.id).get() == 21
    kit.assert_sent(t.add, args=[1, 1], times=1)
    with pytest.raises(ValueError, match="nothing to resume"):
        flow.resume()
    with pytest.raises(ValueError, match="never sent"):
        (t.add.s(1) | t.add.s(2)).resume()


def test_a_generator_is_taken_as_it_goes(app: Celeriac, kit: TaskKit, t: Tasks) -> None:
    made: list[int] = []

    def parts() -> Iterator[Any]:
        for number in range(2500):
            made.append(number)
            if number == 2400:
                assert sum(count.ready for count in kit.broker.count(()).values()) >= 2000
            yield t.add.s(number, 1)

    result = chord(parts(), t.total.s())()
    assert result.get() == sum(range(2501))
    assert len(result.parent) == 2500
    assert result.parent[0].get() == 1


def test_a_generator_that_fails_fails_the_body(kit: TaskKit, t: Tasks) -> None:
    def parts() -> Iterator[Any]:
        for number in range(1500):
            yield t.add.s(number, 1)
        raise OSError("no more")

    flow = chord(parts(), t.total.s().set(task_id="the-body"))
    with pytest.raises(OSError, match="no more"):
        flow.delay()
    kit.run_until_empty(failures="keep")
    assert kit.app.AsyncResult("the-body").state == "FAILURE"


def test_a_long_chain_carries_little(app: Celeriac, kit: TaskKit, t: Tasks) -> None:
    count = 3000
    result = chain(t.add.s(1, 0), *[t.add.s(1) for _ in range(count)]).delay()
    kit.run_until_empty()
    assert app.AsyncResult(result.id).get() == count + 1
    longest = max(len(envelope.body) for envelope, _ in kit._sent)
    assert longest < 64 * 400
    assert sum(len(envelope.body) for envelope, _ in kit._sent) < count * 64 * 250


def test_a_long_chain_that_fails_fails_to_its_end(app: Celeriac, kit: TaskKit, t: Tasks) -> None:
    result = chain(t.fail.s(), *[t.add.s(1) for _ in range(500)]).delay()
    kit.run_until_empty()
    assert app.AsyncResult(result.id).state == "FAILURE"


def test_stamps_travel(app: Celeriac, kit: TaskKit, t: Tasks) -> None:
    class Visitor(StampingVisitor):
        def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
            return {"who": sig.task, "stamped_headers": ["who"]}

    @app.task(name="stamps", bind=True)
    def stamps(self: Any, *args: Any) -> Any:
        return [self.request.stamped_headers, self.request.stamps]

    flow = t.add.s(1, 1) | stamps.s()
    flow.stamp(Visitor(), trace="x")
    names, values = flow.delay().get()
    assert sorted(names) == ["trace", "who"]
    assert values == {"trace": "x", "who": "stamps"}


def test_a_group_is_published_in_one_call(kit: TaskKit, t: Tasks, app: Celeriac) -> None:
    calls = []
    real = app.broker.publish
    app._broker = type(
        "Counting", (), {"__getattr__": lambda self, name: getattr(kit.broker, name)}
    )()
    app._broker.publish = lambda batch: (calls.append(len(batch)), real(batch))
    group(t.add.s(n, n) for n in range(50)).delay()
    assert calls == [50]


def test_request_knows_its_workflow(app: Celeriac, kit: TaskKit, t: Tasks) -> None:
    @app.task(name="look", bind=True)
    def look(self: Any, *args: Any) -> Any:
        request = self.request
        return [request.group, request.group_index, bool(request.chord), len(request.chain or ())]

    result = chord([look.s(), look.s() | t.show.s()], look.s()).delay()
    result.get()
    header = result.parent
    assert header.results[0].get() == [header.id, 0, True, 0]
    assert header.results[1].parent.get() == [None, None, False, 1]
    assert result.result == [None, None, False, 0]


def test_eager_workflows(app: Celeriac, t: Tasks) -> None:
    app.conf.task_always_eager = True
    assert (group(t.add.s(1, 1), t.add.s(2, 2)) | t.total.s() | t.add.s(1)).delay().get() == 7
    assert t.add.chunks([(1, 1), (2, 2), (3, 3)], 2)().get() == [[2, 4], [6]]
    assert t.add.map([1, 2]).delay().get() == [1, 2]
    with pytest.raises(ValueError, match="no"):
        (t.fail.s() | t.add.s(1)).delay()


def test_messages_keep_the_slot_readable_without_the_payload(kit: TaskKit, t: Tasks) -> None:
    result = chord([t.add.s(1, 1), t.add.s(2, 2) | t.add.s(1)], t.total.s()).delay()
    heads = [unpack(envelope.body)[0] for envelope, _ in kit._sent]
    assert [head.slot for head in heads] == [(result.parent.id, 0), (result.parent.id, 1)]
    assert [head.links for head in heads] == [False, True]


def test_maps_over_async_tasks() -> None:
    mapped = Celeriac("mapped", broker="memory://mapped", set_as_current=False)

    @mapped.task(name="mapped.add")
    async def add(x: int, y: int = 1) -> int:
        await asyncio.sleep(0)
        return x + y

    with TaskKit(mapped):
        assert add.map([1, 2]).delay().get() == [2, 3]
        assert add.starmap([(1, 2), (3, 4)]).delay().get() == [3, 7]
        assert add.chunks([(1, 1), (2, 2), (3, 3)], 2)().get() == [[2, 4], [6]]
    assert add.map([1, 2]).apply().get() == [2, 3]
    mapped.close()


def test_a_task_that_dies_after_it_has_added_to_its_chord(
    app: Celeriac, kit: TaskKit, t: Tasks
) -> None:
    @app.task(name="more", bind=True)
    def more(self: Any) -> str:
        sig = self.add_to_chord(t.add.s(20, 1), lazy=True)
        if self.request.handed_out == 1:
            kit.crash_before_settle(times=1)  # grown, and never sent
        else:
            sig.delay()
        return "more"

    result = chord([more.s(), t.add.s(1, 1)], t.show.s()).delay()
    assert result.get() == [["more", 2, 21]]
