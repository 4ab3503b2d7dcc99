"""Where a task goes: every form of task_routes and task_queues, and the first answer wins."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.kernel.errors import ImproperlyConfigured, QueueNotFound
from celeriac.kernel.routing import Queue, Router, declared_queues


def router(routes: Any, *, queues: Any = None, create: bool = True, load: Any = None) -> Router:
    """Return a router over declared queues."""
    declared = declared_queues(queues, "celery")
    return Router(routes, queues=declared, default="celery", create_missing=create, load=load)


def where(routes: Any, name: str = "app.add", **more: Any) -> dict[str, Any]:
    """Return the route of a task."""
    return router(routes, **more).route(name, (1,), {"k": 2}, {"priority": 3})


class Class:
    """A router in Celery's oldest form."""

    def route_for_task(self, task: str, args: Any = None, kwargs: Any = None) -> Any:
        """Answer for one task."""
        return {"queue": f"{task}-{args}-{kwargs}"} if task == "app.add" else None


def function(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **kw: Any) -> Any:
    """Answer by what it is told."""
    return {"queue": f"{name}-{args}-{kwargs}-{options}"} if name == "app.add" else None


@pytest.mark.parametrize("routes", [None, {}, [], (), "", {"other": "q"}, [("x.*", "q")]])
def test_no_route(routes: Any) -> None:
    assert where(routes) == {}


@pytest.mark.parametrize(
    "routes",
    [
        {"app.add": "q"},
        {"app.add": {"queue": "q"}},
        {"app.*": "q"},
        {"*.add": "q"},
        {"app.[ab]dd": "q"},
        {"app.a?d": "q"},
        {re.compile(r"app\.(add|mul)"): "q"},
        [("app.add", "q")],
        [["app.*", {"queue": "q"}]],
        [(re.compile("app"), "q")],
        [{"other": "x"}, {"app.add": "q"}],
        ([("app.*", {"queue": "q"}), ("app.add.more", "x")],),
        lambda name, args, kwargs, options, task=None, **kw: "q",
        [lambda *args, **kw: None, {"app.add": "q"}],
    ],
)
def test_every_form(routes: Any) -> None:
    assert where(routes) == {"queue": "q"}


def test_a_glob_covers_the_whole_name() -> None:
    assert where({"app.a*": "q"}, "app.add") == {"queue": "q"}
    assert where({"app.a*": "q"}, "my.app.add") == {}
    assert where({"*.a": "q"}, "app.add") == {}
    assert where({"app.add": "q"}, "appxadd") == {}


def test_options_beside_the_queue() -> None:
    route = {"queue": "q", "priority": 5, "routing_key": "k"}
    found = where({"app.add": route})
    assert found == route
    found["priority"] = 9
    assert route["priority"] == 5


def test_functions_and_objects_see_the_call() -> None:
    call = "app.add-(1,)-{'k': 2}"
    assert where(function) == {"queue": f"{call}-{{'priority': 3}}"}
    assert where(Class()) == where(Class) == {"queue": call}
    assert where([Class(), {"*": "rest"}], "other") == {"queue": "rest"}
    seen = []
    routes = router(lambda *args, task=None, **kw: seen.append(task))
    routes.route("app.add", (), {}, {}, task="the task")
    assert seen == ["the task"]


@pytest.mark.parametrize(
    "target", [Class(), Class, function, {"app.add": "q"}, [("app.*", "q")]], ids=repr
)
def test_a_dotted_path(target: Any) -> None:
    loaded: list[str] = []

    def load(path: str) -> Any:
        loaded.append(path)
        return target

    assert where("proj.router", load=load) == where(target)
    assert where(["proj.router", {"*": "x"}], load=load) == where(target)
    assert loaded == ["proj.router", "proj.router"]


def test_a_dotted_path_without_a_loader() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"proj\.router"):
        where("proj.router")


@pytest.mark.parametrize("routes", [5, [5], [{"a": "q"}, 1.5], {1, 2}])
def test_what_is_no_route(routes: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="task_routes cannot be"):
        where(routes)


def test_the_first_answer_wins() -> None:
    assert where([{"app.add": "first"}, {"app.add": "second"}]) == {"queue": "first"}
    assert where([("app.*", "first"), ("*", "second")]) == {"queue": "first"}
    assert where({"app.*": "first", "app.a*": "second"}) == {"queue": "first"}
    assert where([lambda *a, **k: None, lambda *a, **k: "second", {"app.add": "third"}]) == {
        "queue": "second"
    }
    assert where([("app.*", "pair"), lambda *a, **k: "function"]) == {"queue": "pair"}
    assert where([lambda *a, **k: "function", ("app.*", "pair")]) == {"queue": "function"}


def test_an_exact_name_beats_a_pattern_of_the_same_table() -> None:
    assert where({"app.*": "glob", "app.add": "exact"}) == {"queue": "exact"}


def test_answers_of_tables_alone_may_be_kept() -> None:
    assert router({"a": "q"}).static
    assert router([("a", "q"), {"b": "q"}]).static
    assert router(None).static
    assert not router([{"a": "q"}, function]).static
    assert not router(Class()).static


# -- queues --------------------------------------------------------------------------------------


def kombu(name: str, exchange: str = "", routing_key: str = "") -> Any:
    """Return an object with the attributes of kombu's Queue."""
    return SimpleNamespace(
        name=name, exchange=SimpleNamespace(name=exchange, type="direct"), routing_key=routing_key
    )


@pytest.mark.parametrize(
    ("value", "queue"),
    [
        ("q", Queue("q", "q", "q")),
        (Queue("q", "e", "k"), Queue("q", "e", "k")),
        ({"name": "q"}, Queue("q", "q", "q")),
        ({"name": "q", "exchange": "e", "routing_key": "k"}, Queue("q", "e", "k")),
        ({"name": "q", "exchange": kombu("e")}, Queue("q", "e", "q")),
        (kombu("q"), Queue("q", "q", "q")),
        (kombu("q", "e", "k"), Queue("q", "e", "k")),
        (SimpleNamespace(name="q"), Queue("q", "q", "q")),
    ],
)
def test_queue_of(value: Any, queue: Queue) -> None:
    assert Queue.of(value) == queue


def test_kombus_own_queue() -> None:
    real = pytest.importorskip("kombu")
    value = real.Queue("q", real.Exchange("e"), routing_key="k")
    assert Queue.of(value) == Queue("q", "e", "k")
    assert Queue.of(real.Queue("q")) == Queue("q", "q", "q")


@pytest.mark.parametrize("value", [5, None, {}, {"exchange": "e"}, kombu(""), object()])
def test_what_is_no_queue(value: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="task_queues has"):
        Queue.of(value)


def test_declared_queues() -> None:
    assert declared_queues(None, "d") == declared_queues([], "d") == {"d": Queue("d", "d", "d")}
    assert list(declared_queues(["a", kombu("b"), {"name": "c"}], "d")) == ["a", "b", "c"]
    found = declared_queues({"a": None, "b": {"routing_key": "k"}, "c": {}}, "d")
    assert found == {
        "a": Queue("a", "a", "a"),
        "b": Queue("b", "b", "k"),
        "c": Queue("c", "c", "c"),
    }


def test_the_queue_of_options() -> None:
    routes = router(None, queues=[kombu("one", "e", "key"), "two"])
    assert routes.queue_for({}) == "celery"
    assert routes.queue_for({"queue": None}) == "celery"
    assert routes.queue_for({"queue": "two"}) == "two"
    assert routes.queue_for({"queue": kombu("three")}) == "three"
    assert routes.queue_for({"routing_key": "key"}) == "one"
    assert routes.queue_for({"routing_key": "unheard.of"}) == "unheard.of"
    assert routes.queue_for({"queue": "two", "routing_key": "key"}) == "two"


@pytest.mark.parametrize("options", [{"queue": "x"}, {"routing_key": "x"}, {}])
def test_missing_queues(options: dict[str, Any]) -> None:
    routes = router(None, queues=["one", "two"], create=False)
    assert routes.queue_for({"queue": "two"}) == "two"
    with pytest.raises(QueueNotFound) as caught:
        routes.queue_for(options)
    assert "one, two" in str(caught.value)
    assert "task_create_missing_queues" in str(caught.value)


@given(st.text(min_size=1))
def test_every_exact_name_is_found(name: str) -> None:
    found = where({name: "q"}, name)
    assert found == {"queue": "q"} or "[" in name, "brackets and marks make it a pattern"
