"""The picture of the fleet: events in any order, twice, or not at all; never more than its bounds."""

from __future__ import annotations

import itertools
import time
from typing import Any

import celery.events.state
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from celeriac.events.state import State, Task, Worker

RUN = ("sent", "received", "started", "succeeded")
SAYS: dict[str, dict[str, Any]] = {
    "sent": {"name": "add", "args": "(1,)", "kwargs": "{}", "queue": "celery", "retries": 0},
    "received": {"name": "add", "args": "(1,)", "kwargs": "{}", "retries": 0},
    "succeeded": {"result": "3", "runtime": 0.5},
    "failed": {"exception": "ValueError()", "traceback": "..."},
    "revoked": {"terminated": False, "signum": None, "expired": False},
    "retried": {"exception": "OSError()", "traceback": "..."},
    "rejected": {"requeue": False},
}


def event(kind: str, uuid: str = "t1", at: float = 1.0, **fields: Any) -> dict[str, Any]:
    host = "client@here" if kind == "sent" else "w1@here"
    return {
        "type": f"task-{kind}",
        "uuid": uuid,
        "hostname": host,
        "pid": 1,
        "clock": int(at),
        "timestamp": at,
        "local_received": at,
        "utcoffset": 0,
        **SAYS.get(kind, {}),
        **fields,
    }


def worker_event(kind: str, hostname: str = "w1@here", **fields: Any) -> dict[str, Any]:
    now = time.time()
    said = {"type": f"worker-{kind}", "hostname": hostname, "timestamp": now, "freq": 2.0}
    return {**said, "local_received": now, "pid": 1, "clock": 1, "utcoffset": 0, **fields}


def test_fields_are_celerys() -> None:
    assert set(Task._fields) >= set(celery.events.state.Task._fields)
    assert set(Worker._fields) >= set(celery.events.state.Worker._fields)
    assert set(Task("x").as_dict()) == set(Task._fields)


def test_a_task_from_sent_to_succeeded() -> None:
    state = State()
    for at, kind in enumerate(RUN, 1):
        (task, created), subject = state.event(event(kind, at=float(at)))
        assert (created, subject) == (kind == "sent", kind)
    assert task is state.tasks["t1"]
    assert (task.state, task.name, task.args, task.result) == ("SUCCESS", "add", "(1,)", "3")
    assert (task.sent, task.received, task.started, task.succeeded) == (1.0, 2.0, 3.0, 4.0)
    assert (task.client, task.worker) == ("client@here", state.workers["w1@here"])
    assert task.ready
    assert state.task_count == 1
    assert task.info(("args", "result")) == {"args": "(1,)", "result": "3"}
    assert list(state.tasks_by_type["add"]) == [task]
    assert list(state.tasks_by_type("add")) == [("t1", task)]
    assert list(state.tasks_by_worker("w1@here")) == [("t1", task)]
    assert state.task_types() == ["add"]


@pytest.mark.parametrize("order", list(itertools.permutations(RUN)), ids="-".join)
def test_the_order_does_not_matter(order: tuple[str, ...]) -> None:
    state = State()
    for kind in order:
        state.event(event(kind, at=1.0 + RUN.index(kind)))
    task = state.tasks["t1"]
    assert (task.state, task.name, task.args, task.result) == ("SUCCESS", "add", "(1,)", "3")
    assert (task.sent, task.succeeded) == (1.0, 4.0)


def test_a_retry_begins_again() -> None:
    state = State()
    for at, kind in enumerate(["received", "started", "retried", "received", "started"]):
        state.event(event(kind, at=float(at)))
    assert state.tasks["t1"].state == "STARTED"
    state.event(event("failed", at=9.0))
    assert state.tasks["t1"].state == "FAILURE"


@settings(max_examples=60, deadline=None)
@example(["retried", "succeeded", "failed"])
@given(st.lists(st.sampled_from([*SAYS, "started"]), min_size=1, max_size=8))
def test_states_are_those_that_celery_finds(kinds: list[str]) -> None:
    ours, theirs = State(), celery.events.state.State()
    for at, kind in enumerate(kinds, 1):
        ours.event(event(kind, at=float(at)))
        theirs.event(event(kind, at=float(at)))
    mine, their = ours.tasks["t1"], theirs.tasks["t1"]
    assert mine.state == their.state
    assert (mine.name, mine.result, mine.exception) == (their.name, their.result, their.exception)


def test_workers_come_and_go() -> None:
    joined, left = [], []
    state = State(on_node_join=joined.append, on_node_leave=left.append)
    state.event(worker_event("online", active=0))
    state.event(worker_event("heartbeat", active=3, processed=7))
    worker = state.workers["w1@here"]
    assert (worker.active, worker.processed, worker.status_string) == (3, 7, "ON")
    assert list(state.alive_workers()) == [worker]
    worker.heartbeats[:] = [time.time() - 5]  # 4 s is twice its frequency
    assert not worker.alive
    state.event(worker_event("heartbeat"))
    state.event(worker_event("offline"))
    assert state.workers == {}
    assert (joined, left) == ([worker], [worker])


def test_it_is_bounded() -> None:
    state = State(max_tasks_in_memory=10, max_workers_in_memory=5)
    for number in range(100):
        state.event(event("received", f"t{number}"))
    for number in range(100):
        state.event(worker_event("heartbeat", f"w{number}@here"))
    assert list(state.tasks) == [f"t{number}" for number in range(90, 100)]
    assert list(state.workers) == [f"w{number}@here" for number in range(95, 100)]
    assert len(state.tasks_by_type["add"]) == 10


def test_parents_and_children() -> None:
    state = State()
    state.event(event("received", "p"))
    state.event(event("received", "c", parent_id="p", root_id="p"))
    parent, child = state.tasks["p"], state.tasks["c"]
    assert (child.parent, child.root, parent.children) == (parent, parent, [child])


def test_forgetting() -> None:
    state = State()
    state.event(event("received", "running"))
    state.event(event("succeeded", "done"))
    state.clear_tasks(ready=False)
    assert list(state.tasks) == ["running"]
    assert state.freeze_while(lambda: len(state.tasks), clear_after=True) == 1
    assert not state.tasks


@pytest.mark.parametrize(
    "hostile",
    [{}, {"type": "task-"}, {"type": "task-started"}, {"type": "x-y"}, {"type": "worker-online"}],
)
def test_events_that_say_nothing(hostile: dict[str, Any]) -> None:
    state = State()
    state.event(hostile)
    assert not state.tasks
    assert not state.workers


def test_fields_of_others_do_not_reach_into_the_record() -> None:
    state = State()
    state.event(event("progress", event=1, children=3, _children=None, cluster_state=None, info=4))
    task = state.tasks["t1"]
    assert task.state == "PROGRESS"
    assert task.children == []
    assert callable(task.info)
