"""The tree of results: walked, drawn, and shown by `celeriac graph`."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from celeriac import AsyncResult, Celeriac
from celeriac.cli.root import run
from celeriac.client.graph import Graph
from celeriac.kernel.errors import IncompleteStream
from celeriac.kernel.failure import describe
from celeriac.kernel.message import Record
from celeriac.testing import running_worker


@pytest.fixture
def store(app: Celeriac) -> Iterator[Any]:
    """Return a function that writes a task's state; the app stands in memory meanwhile."""
    with running_worker(app):

        def write(
            task_id: str,
            state: str = "SUCCESS",
            result: Any = None,
            *children: Any,
            parent: str | None = None,
            name: str | None = None,
        ) -> None:
            if isinstance(result, BaseException):
                result = describe(result)
            meta: dict[str, Any] = {"status": state, "result": result, "traceback": None}
            meta["children"] = [
                child.as_tuple() if hasattr(child, "as_tuple") else [[child, None], None]
                for child in children
            ]
            if parent:
                meta["parent_id"] = parent
            if name:
                meta["name"] = name
            app.results.store([Record(task_id, state, json.dumps(meta).encode())])

        yield write


def shown(app: Celeriac, capsys: Any, *words: str) -> tuple[int, list[str]]:
    """Run `celeriac graph` and return its exit code and lines."""
    code = run(["graph", *words], app)
    return code, capsys.readouterr().out.splitlines()


def a_group(app: Celeriac, name: str, *ids: str) -> Any:
    return app.GroupResult(name, [AsyncResult(task_id, app=app) for task_id in ids])


def test_a_chain_is_a_column(app: Celeriac, store: Any, capsys: Any) -> None:
    store("one", "SUCCESS", 1, "two", name="proj.add")
    store("two", "SUCCESS", 2, "three", parent="one")
    store("three", "FAILURE", ValueError("no\nand more"), parent="two")
    expected = [
        "✔ SUCCESS  proj.add  one  = 1",
        "→ ✔ SUCCESS  two  = 2",
        "→ ✘ FAILURE  three  ValueError: no",
    ]
    assert shown(app, capsys, "one") == (1, expected)
    assert shown(app, capsys, "three") == (1, expected), "from its end: up to the first"
    assert shown(app, capsys, "two", "--below")[1] == [expected[1][2:], expected[2]]


def test_groups_and_what_is_open(app: Celeriac, store: Any, capsys: Any) -> None:
    store("first", "SUCCESS", None, a_group(app, "g", "a", "b", "c"))
    store("a", "SUCCESS", 5, "d", "e", parent="first")
    store("b", "STARTED", None, parent="first")
    store("d", "SUCCESS", 6)
    code, lines = shown(app, capsys, "a")
    assert code == 75
    assert lines == [
        "✔ SUCCESS  first",
        "→ group g  2 of 5 ended, 2 PENDING, 1 STARTED",
        "├─ ✔ SUCCESS  a  = 5",
        "│  ├─ ✔ SUCCESS  d  = 6",
        "│  └─ · PENDING  e",
        "├─ ▶ STARTED  b",
        "└─ · PENDING  c",
    ]


def test_a_chord_with_its_header(app: Celeriac, store: Any, capsys: Any) -> None:
    body = AsyncResult("body", app=app, parent=a_group(app, "g", "a", "b"))
    store("first", "SUCCESS", 0, body)
    store("a", "SUCCESS", 1, parent="first")
    assert shown(app, capsys, "a")[1] == [
        "✔ SUCCESS  first  = 0",
        "├─ group g  1 of 2 ended, 1 PENDING",
        "│  ├─ ✔ SUCCESS  a  = 1",
        "│  └─ · PENDING  b",
        "└─ · PENDING  body",
    ]


def test_a_body_that_no_task_sent(app: Celeriac, store: Any, capsys: Any) -> None:
    store("first", "SUCCESS", 0, a_group(app, "g", "a"))
    store("a", "SUCCESS", 1, parent="first")
    store("body", "SUCCESS", [1], "after", parent="first")
    store("after", "SUCCESS", 2, parent="body")
    code, lines = shown(app, capsys, "after")
    assert code == 0
    assert lines == [
        "✔ SUCCESS  first  = 0",
        "├─ group g  1 of 1 ended",
        "│  → ✔ SUCCESS  a  = 1",
        "└─ ✔ SUCCESS  body  = [1]",
        "   → ✔ SUCCESS  after  = 2",
    ]


def test_a_saved_group_and_a_large_one(app: Celeriac, store: Any, capsys: Any) -> None:
    ids = [f"part-{i:03}" for i in range(100)]
    for task_id in ids:
        store(task_id, "FAILURE" if task_id == "part-077" else "SUCCESS", None)
    a_group(app, "big", *ids).save()
    code, lines = shown(app, capsys, "big")
    assert code == 1
    assert lines[0] == "group big  100 of 100 ended, 1 FAILURE"
    assert len(lines) == 22
    assert lines[-2].startswith("├─ ✘ FAILURE  part-077"), "what did not succeed is not left out"
    assert lines[-1] == "└─ 80 more: 80 of 80 ended"
    assert len(shown(app, capsys, "big", "--all")[1]) == 101


def test_a_circle_ends(app: Celeriac, store: Any, capsys: Any) -> None:
    store("one", "SUCCESS", 1, "two", parent="two")
    store("two", "SUCCESS", 2, "one", parent="one")
    code, lines = shown(app, capsys, "one")
    assert code == 0 and len(lines) == 3 and lines[-1].endswith("see above")


def test_a_long_chain(app: Celeriac, store: Any, capsys: Any) -> None:
    ids = [f"step-{i}" for i in range(3000)]
    for here, after in zip(ids, [*ids[1:], None], strict=True):
        store(here, "SUCCESS", None, *([after] if after else []))
    assert len(shown(app, capsys, "step-0")[1]) == 3000
    code, lines = shown(app, capsys, "step-0", "--format", "json")
    assert code == 0 and len(json.loads("\n".join(lines))["nodes"]) == 3000
    assert len(AsyncResult("step-0", app=app).graph) == 3000


def test_formats(app: Celeriac, store: Any, capsys: Any) -> None:
    store("one", "SUCCESS", 1, a_group(app, "g", "a", "b"), name='say "hi"')
    store("a", "FAILURE", ValueError("x"))
    _, lines = shown(app, capsys, "one", "--format", "json")
    found = json.loads("\n".join(lines))
    assert found["root"] == "one"
    assert [(n["id"], n["kind"], n.get("state"), n["children"]) for n in found["nodes"]] == [
        ("one", "task", "SUCCESS", ["g"]),
        ("g", "group", None, ["a", "b"]),
        ("a", "task", "FAILURE", []),
        ("b", "task", "PENDING", []),
    ]
    _, dot = shown(app, capsys, "one", "--format", "dot")
    assert dot[0] == "digraph results {" and dot[-1] == "}"
    assert '  n0 [label="say \\"hi\\" one", fillcolor="#c6e5c6"];' in dot
    assert "  n1 -> n3;" in dot
    _, mermaid = shown(app, capsys, "one", "--format", "mermaid")
    assert mermaid[0] == "flowchart TD" and "  n1 --> n2" in mermaid
    assert '  n0(["say #quot;hi#quot; one"])' in mermaid
    assert "  style n2 fill:#f2c4c0" in mermaid


def test_nothing_known(app: Celeriac, store: Any, capsys: Any) -> None:
    assert shown(app, capsys, "nobody") == (75, ["· PENDING  nobody"])


def test_watch(app: Celeriac, capsys: Any) -> None:
    gate = threading.Event()

    @app.task(name="child")
    def child() -> str:
        assert gate.wait(20)
        return "ended"

    @app.task(name="parent")
    def parent() -> str:
        child.delay()
        return "sent"

    codes: list[int] = []
    with running_worker(app):
        result = parent.delay()
        result.get(timeout=10)
        watching = threading.Thread(
            target=lambda: codes.append(run(["graph", result.id, "--watch"], app))
        )
        watching.start()
        gate.set()
        watching.join(20)
    lines = capsys.readouterr().out.splitlines()
    assert codes == [0]
    assert lines[0].endswith("= 'sent'") and lines[-1].endswith("= 'ended'")


def test_watch_takes_trees_only(app: Celeriac, capsys: Any) -> None:
    assert run(["graph", "x", "--watch", "--format", "dot"], app) == 2
    assert "--watch draws trees" in capsys.readouterr().err


def test_iterdeps_and_graph(app: Celeriac, store: Any) -> None:
    store("one", "SUCCESS", 1, "two", a_group(app, "g", "a"))
    store("two", "SUCCESS", 2)
    one = AsyncResult("one", app=app)
    with pytest.raises(IncompleteStream):
        one.build_graph()
    assert [str(n) for _, n in one.iterdeps(intermediate=True)] == ["one", "two", "g", "a"]
    graph = one.graph
    assert [str(node) for node in graph] == ["one", "two", "g", "a"]
    assert [str(node) for node in graph[one]] == ["two", "g"]
    assert [str(node) for node in graph.edges()] == ["one", "g"]
    assert [str(node) for node in graph.topsort()] == ["one", "two", "g", "a"]
    store("a", "SUCCESS", 3)
    assert len(one.build_graph()) == 4
    assert [value for _, value in one.collect(timeout=5)] == [1, 2, [3], 3]
    assert one.get_leaf() == 3
    text = io.StringIO()
    graph.to_dot(text)
    assert text.getvalue() == graph.dot() and "n0 -> n1" in graph.dot()
    assert "fill:#c6e5c6" in graph.mermaid()


def test_a_graph_with_a_cycle_has_no_order() -> None:
    graph = Graph([(None, "a"), ("a", "b"), ("b", "a")])
    assert repr(graph) == "a(1)\n     b\nb(1)\n     a"
    with pytest.raises(ValueError, match="cycle"):
        graph.topsort()
