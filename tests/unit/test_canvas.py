"""What workflows become of each other, beside Celery's: the same classes, the same data."""

from __future__ import annotations

import importlib
import json
import warnings
from typing import Any

import pytest

import celeriac.canvas as own
from celeriac import Celeriac
from celeriac.kernel.parts import Parts

EXPRESSIONS = """
add.s(1,2)
add.s(1,k=2)
add.s(1)|add.s(2)
add.s(1)|add.s(2)|add.s(3)
chain(add.s(1))
chain()
chain([add.s(1),add.s(2)])
group(add.s(1),add.s(2))
group([add.s(1)])
group()
group(add.s(1),add.s(2))|tot.s()
group(add.s(1),add.s(2))|tot.s()|add.s(3)
group(add.s(1),add.s(2))|tot.s()|add.s(3)|add.s(4)
add.s(1)|group(add.s(1),add.s(2))
add.s(1)|group(add.s(1),add.s(2))|tot.s()
add.s(1)|group(add.s(1),add.s(2))|tot.s()|add.s(1)
chain(group(add.s(1),add.s(2)),group(add.s(1),add.s(2)))
chain(add.s(1),group(add.s(1),add.s(2)),group(add.s(1),add.s(2)),tot.s())
group(add.s(1),add.s(2))|group(add.s(3),add.s(4))
add.s(1)|group([add.s(1)])
chord([add.s(1),add.s(2)],tot.s())
chord([add.s(1),add.s(2)],tot.s())|add.s(1)
chord([add.s(1),add.s(2)],tot.s())|group(add.s(1),add.s(2))
chord([add.s(1),add.s(2)],tot.s())|chord([add.s(1)],tot.s())
chain(chord([add.s(1)],tot.s()),add.s(1))
chord([add.s(1)],tot.s()|add.s(1))
chord(group(add.s(1),add.s(2)),tot.s())
chord([group(add.s(1),add.s(2)),add.s(1)],tot.s())
group(group(add.s(1)),add.s(2))
group(add.s(1)|add.s(2),add.s(3))
add.map([1,2])
add.starmap([(1,2)])
add.s(1).set(queue="q").on_error(tot.s())
(add.s(1)|add.s(2)).on_error(tot.s())
(add.s(1)|add.s(2)).on_error(tot.s())|add.s(3)
add.s(1)|(add.s(2)|add.s(3))
(add.s(1)|add.s(2))|(add.s(2)|group(add.s(3),add.s(4)))
group(add.s(1),add.s(2))|(tot.s()|add.s(1))
add.si(1)
add.signature((1,),countdown=3)
add.s(1).clone((5,),{"z":1},queue="x")
group(add.s(1),add.s(2)).skew(1,3)
""".split("\n")[1:-1]


def tasks(app: Any, module: Any) -> dict[str, Any]:
    """Return the names that an expression uses."""

    @app.task(name="t.add")
    def add(x: int, y: int = 0) -> int:
        return x + y

    @app.task(name="t.tot")
    def tot(x: Any) -> Any:
        return sum(x)

    names = {name: getattr(module, name) for name in ("chain", "group", "chord", "chunks")}
    return {"add": add, "tot": tot, **names}


def data(value: Any) -> Any:
    return json.loads(json.dumps(value, default=list))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_like_celerys(expression: str) -> None:
    celery = pytest.importorskip("celery")
    canvas = importlib.import_module("celery.canvas")
    theirs = celery.Celery("t", broker="memory://", set_as_current=False)
    ours = Celeriac("t", broker="memory://", set_as_current=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = eval(expression, tasks(theirs, canvas))
    found = eval(expression, tasks(ours, own))
    assert type(found).__name__ == type(wanted).__name__
    assert data(found) == data(wanted)
    # Which of the lists were tuples once is nothing to rely on.
    assert _bare(repr(found)) == _bare(repr(wanted))


def _bare(text: str) -> str:
    return text.partition("@")[0].translate(str.maketrans("[]", "()"))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_through_json_it_is_the_same(expression: str) -> None:
    app = Celeriac("t", broker="memory://", set_as_current=False)
    made = eval(expression, tasks(app, own))
    again = own.signature(data(made), app=app)
    assert data(again) == data(made)
    # A map is one task, and its mapping says nothing else.
    kind = type(made).__name__.strip("_") if "map" not in expression else "Signature"
    assert type(again).__name__.strip("_") == kind


def test_copies_share_nothing_that_changes() -> None:
    app = Celeriac("t", broker="memory://", set_as_current=False)
    names = tasks(app, own)
    add = names["add"]
    flow = own.group(add.s(1), add.s(2)) | add.s(3)
    before = data(flow)
    copy = flow.clone()
    copy.body.set(queue="q").link(add.s(9))
    copy.tasks[0].set(queue="q")
    copy.tasks[0].link_error(add.s(1))
    assert data(flow) == before
    assert data(flow | add.s(1)) != before
    assert data(flow) == before


def test_a_generator_is_used_once() -> None:
    parts = Parts(iter([1, 2]))
    assert list(parts.stream()) == [1, 2]
    with pytest.raises(RuntimeError, match="has been used"):
        list(parts.stream())
    assert Parts(iter([1, 2])).all() == [1, 2]


def test_a_chain_of_ten_thousand_is_made_and_copied() -> None:
    app = Celeriac("t", broker="memory://", set_as_current=False)
    add = tasks(app, own)["add"]
    flow = own.chain(add.s(1) for _ in range(10_000))
    assert len(flow.clone().tasks) == 10_000
    assert len((flow | add.s(1)).tasks) == 10_001
    assert flow.freeze().id


def test_what_is_no_workflow_is_refused() -> None:
    with pytest.raises(ValueError, match="max_concurrency"):
        own.group(max_concurrency=0)
    with pytest.raises(TypeError):
        own.chain() | 3


def test_a_generator_s_group_is_sent_by_the_app_of_its_first_task() -> None:
    class App:
        pass

    app = App()
    made = own.group(own.Signature("one", (number,), app=app) for number in range(3))
    assert made.app is app
    assert [task.args for task in made.tasks] == [(0,), (1,), (2,)]
