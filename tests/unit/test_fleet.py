"""What `celeriac top` shows and what its keys do, without a terminal."""

from __future__ import annotations

import io
import threading
from typing import Any

import pytest
from rich.console import Console

from celeriac.cli.fleet import Filter, Fleet
from celeriac.cli.top import Screen, _keys, summary
from celeriac.events.state import Task, Worker
from celeriac.kernel.errors import BrokerUnavailable
from celeriac.kernel.message import QueueCount


def event(kind: str, uuid: str = "t1", at: float = 100.0, **fields: Any) -> dict[str, Any]:
    said = {"type": kind, "uuid": uuid, "hostname": "w1@here", "timestamp": at}
    return {**said, "local_received": at, **fields}


def fleet(*wanted: str) -> Fleet:
    made = Fleet(Filter(*wanted))
    for uuid, name in (("t1", "proj.add"), ("t2", "proj.mail")):
        made.take(event("task-received", uuid, name=name, args="[[/red]]"))
        made.take(event("task-started", uuid, at=100.0 + int(uuid[1])))
    return made


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ((), ["t1", "t2"]),
        (("mail",), ["t2"]),
        (("proj.*",), ["t1", "t2"]),
        (("add*",), []),
        (("", "w1"), ["t1", "t2"]),
        (("", "w2"), []),
    ],
)
def test_filters(wanted: tuple[str, ...], found: list[str]) -> None:
    assert [task.uuid for task in fleet(*wanted).running()] == found


def test_what_began_before_it_looked() -> None:
    made = fleet()
    asked = {"id": "t0", "name": "proj.old", "args": [1], "kwargs": {}, "time_start": 50.0}
    made.runs("w2@here", asked)
    made.runs("w1@here", {**asked, "id": "t1", "name": "other"})  # events know better
    assert [(t.uuid, t.name, t.args) for t in made.running()] == [
        *(("t0", "proj.old", "[1]"), ("t1", "proj.add", "[[/red]]")),
        ("t2", "proj.mail", "[[/red]]"),
    ]
    made.take(event("task-succeeded", "t0", at=101.0, clock=7, hostname="w2@here"))
    assert [t.uuid for t in made.running()] == ["t1", "t2"]
    made.runs("w2@here", asked)  # an answer that comes late
    assert [t.uuid for t in made.running()] == ["t1", "t2"]


def test_rates_are_of_the_last_seconds() -> None:
    made = fleet()
    assert made.rates(100.0) == {"done": 0.0, "failed": 0.0, "retried": 0.0}
    for number in range(20):
        made.take(event("task-succeeded", f"d{number}", at=105.0))
    made.take(event("task-failed", "f", at=105.0))
    assert made.rates(110.0) == {"done": 2.0, "failed": 0.1, "retried": 0.0}
    assert made.rates(116.0)["done"] == 0.0


def test_the_first_line() -> None:
    made = fleet("mail")
    made.queues = {"celery": QueueCount(ready=3)}
    made.trouble = "the broker is away"
    line = summary(made, 100.0)
    assert "1 running · 3 waiting" in line
    assert "task=mail" in line
    assert "broker: the broker is away" in line


class Control:
    """Keeps what is revoked."""

    def __init__(self) -> None:
        self.revoked: list[tuple[str, bool]] = []
        self.away = False

    def revoke(self, task_id: str, *, terminate: bool) -> None:
        """Keep it."""
        if self.away:
            raise BrokerUnavailable("away")
        self.revoked.append((task_id, terminate))


class App:
    """As much of an app as keys need."""

    def __init__(self) -> None:
        self.control = Control()


@pytest.fixture
def screen() -> Screen:
    made: Any = Screen(App(), fleet(), threading.Lock(), 1.0, color=False)  # type: ignore[arg-type]
    return made


def shown(screen: Screen) -> str:
    console = Console(file=io.StringIO(), width=140, height=50)
    console.print(screen.draw(50))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_it_draws_workers_and_tasks(screen: Screen) -> None:
    text = shown(screen)
    assert "proj.add" in text
    assert "[[/red]]" in text  # what users send is not read as markup
    assert "w1@here" in text


def test_choose_and_revoke(screen: Screen) -> None:
    control: Any = screen._app.control
    shown(screen)
    assert screen.chosen == "t1"
    for key in ("down", "r", "down", "t"):
        assert screen.press(key)
    assert control.revoked == [("t2", False), ("t1", True)]
    assert "terminated" in shown(screen)
    control.away = True
    screen.press("r")
    assert "not revoked: away" in shown(screen)


def test_filter_by_typing(screen: Screen) -> None:
    for key in ("/", "m", "x", "\x7f", "a", "\r"):
        assert screen.press(key)
    assert screen._fleet.wanted.task == "ma"
    for key in ("w", "q", "escape"):
        assert screen.press(key)
    assert screen._fleet.wanted.worker == ""
    assert not screen.press("q")


def test_keys_of_a_terminal() -> None:
    assert list(_keys(b"a\x1b[B\xc3\xa9\r")) == ["a", "down", "é", "\r"]
    assert list(_keys(b"\x1b")) == ["escape"]
    assert list(_keys(b"\x1b[15~")) == []


def test_workers_that_are_gone_come_last() -> None:
    made = Fleet()
    made.state.workers.update(a=Worker("a"), b=Worker("b", heartbeats=[9e12]))
    assert [one.hostname for one in made.workers()] == ["b", "a"]
    made.state.tasks["x"] = Task("x", state="SUCCESS", runtime=1.0)
    assert [task.uuid for task in made.ended(5)] == ["x"]
