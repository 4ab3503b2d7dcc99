"""A call as data: Celery's keys, partial and immutable calls, links, and the way through JSON."""

from __future__ import annotations

import copy
import json
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.kernel.signature import Signature

KEYS = {"task", "args", "kwargs", "options", "subtask_type", "immutable"}


class App:
    """Remembers what is sent."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.tasks: dict[str, Any] = {}

    def send_task(self, name: str, args: Any, kwargs: Any, **options: Any) -> str:
        """Remember a call."""
        self.sent.append((name, args, kwargs, options))
        return "result"

    def AsyncResult(self, id: str) -> str:
        """Name the result to come."""
        return f"result of {id}"


@pytest.fixture
def app() -> App:
    return App()


def test_it_is_a_dict_with_celerys_keys() -> None:
    sig = Signature("app.add", (1, 2), {"k": 3}, {"queue": "q"}, priority=5)
    assert sig == {
        "task": "app.add",
        "args": (1, 2),
        "kwargs": {"k": 3},
        "options": {"queue": "q", "priority": 5},
        "subtask_type": None,
        "immutable": False,
    }
    assert (sig.task, sig.name, sig.args, sig.kwargs) == ("app.add", "app.add", (1, 2), {"k": 3})
    assert (sig.options["queue"], sig.subtask_type, sig.immutable) == ("q", None, False)
    assert set(Signature("t")) == KEYS


def test_celery_writes_the_same_keys() -> None:
    celery = pytest.importorskip("celery")
    theirs = celery.Signature("app.add", (1, 2), {"k": 3}, {"queue": "q"}, immutable=True)
    assert dict(theirs) == dict(Signature(theirs))
    assert dict(Signature("app.add", (1, 2), {"k": 3}, {"queue": "q"}, immutable=True)) == theirs
    assert celery.Signature(Signature("t", (1,))).clone((0,)).args == (0, 1)


def test_from_a_task_and_its_app(app: App) -> None:
    task = SimpleNamespace(name="app.add", _app=app)
    sig = Signature(task, (1,))
    assert sig.task == "app.add"
    assert sig.app is app
    app.tasks["app.add"] = task
    assert sig.type is task
    assert Signature("app.add", type=task).app is app


def test_what_the_caller_hands_in_is_not_kept() -> None:
    args, kwargs, options = [1], {"k": 1}, {"queue": "q"}
    sig = Signature("t", args, kwargs, options)
    args.append(2)
    kwargs["l"] = 2
    options["priority"] = 1
    assert (sig.args, sig.kwargs, sig.options) == ((1,), {"k": 1}, {"queue": "q"})


def test_a_partial_takes_arguments_in_front_and_keywords_over() -> None:
    sig = Signature("t", (2,), {"a": 1, "b": 1})
    more = sig.clone((1,), {"b": 2, "c": 2}, queue="q")
    assert (more.args, more.kwargs) == ((1, 2), {"a": 1, "b": 2, "c": 2})
    assert more.options == {"queue": "q"}
    assert (sig.args, sig.kwargs, sig.options) == ((2,), {"a": 1, "b": 1}, {})
    assert sig.partial((1,)).args == (1, 2)


def test_an_immutable_one_drops_arguments_and_takes_options() -> None:
    sig = Signature("t", (2,), {"a": 1}, immutable=True)
    more = sig.clone((1,), {"b": 2}, queue="q")
    assert (more.args, more.kwargs, more.options) == ((2,), {"a": 1}, {"queue": "q"})
    assert more.immutable


def test_set_changes_it_and_clone_does_not() -> None:
    sig = Signature("t")
    assert sig.set(queue="q", priority=1) is sig
    assert sig.set(immutable=True).immutable
    assert sig.options == {"queue": "q", "priority": 1}
    twin = sig.clone(queue="other")
    assert (sig.options["queue"], twin.options["queue"]) == ("q", "other")
    sig.set_immutable(False)
    assert not sig.immutable
    assert twin.immutable


def test_links() -> None:
    sig, one, two = Signature("t"), Signature("one"), Signature("two")
    assert sig.link(one) is one
    sig.link(one)
    sig.link(two)
    assert sig.options["link"] == [one, two]
    assert sig.on_error(one) is sig
    assert sig.link_error(two) is two
    assert sig.options["link_error"] == [one, two]


def test_a_link_given_as_an_option_may_be_one_alone() -> None:
    sig = Signature("t", link=Signature("one"))
    sig.link(Signature("two"))
    assert [link.task for link in sig.options["link"]] == ["one", "two"]


def test_a_clone_has_links_of_its_own() -> None:
    sig = Signature("t")
    sig.link(Signature("one"))
    sig.link_error(Signature("bad"))
    twin = sig.clone()
    twin.link(Signature("two"))
    twin.link_error(Signature("worse"))
    assert len(sig.options["link"]) == len(sig.options["link_error"]) == 1
    assert len(twin.options["link"]) == len(twin.options["link_error"]) == 2


def test_sending(app: App) -> None:
    sig = Signature("t", (2,), {"a": 1}, {"queue": "q"}, app=app)
    assert sig.delay(1, b=2) == "result"
    sig.apply_async((0,), priority=3)
    sig.clone().set(immutable=True).delay(1, b=2)
    assert app.sent == [
        ("t", (1, 2), {"a": 1, "b": 2}, {"queue": "q"}),
        ("t", (0, 2), {"a": 1}, {"queue": "q", "priority": 3}),
        ("t", (2,), {"a": 1}, {"queue": "q"}),
    ]


def test_freeze_fixes_the_id_once(app: App) -> None:
    sig = Signature("t", app=app)
    assert sig.id is None
    assert sig.freeze("first") == sig.freeze("second") == "result of first"
    assert sig.id == "first"
    assert Signature("t", app=app).freeze() != Signature("t", app=app).freeze()


def test_without_an_app_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celeriac.kernel.signature._find_app", None)
    with pytest.raises(RuntimeError, match="signature of t belongs to no app"):
        Signature("t").delay()


def test_it_shows_as_a_call() -> None:
    assert repr(Signature("app.add", (1, "x"), {"k": None})) == "app.add(1, 'x', k=None)"


def test_from_a_mapping_of_an_older_form() -> None:
    sig = Signature({"task": "t", "args": [1], "kwargs": {}, "options": {}})
    assert (sig.subtask_type, sig.immutable) == (None, False)


@pytest.mark.parametrize(
    "through", [lambda s: pickle.loads(pickle.dumps(s)), copy.deepcopy, copy.copy]
)
def test_copies_are_signatures(through: Any) -> None:
    sig = Signature("t", (1,), {"k": 2}, immutable=True)
    sig.link(Signature("one"))
    twin = through(sig)
    assert type(twin) is Signature
    assert twin == sig
    assert isinstance(twin.options["link"][0], Signature)


VALUES = st.none() | st.booleans() | st.integers() | st.text()


@given(
    st.text(min_size=1),
    st.lists(VALUES),
    st.dictionaries(st.text(), VALUES),
    st.dictionaries(st.sampled_from(["queue", "priority", "eta"]), VALUES),
    st.booleans(),
)
def test_round_trips(
    name: str, args: list[Any], kwargs: dict[str, Any], options: dict[str, Any], immutable: bool
) -> None:
    sig = Signature(name, args, kwargs, options, immutable=immutable)
    assert pickle.loads(pickle.dumps(sig)) == sig
    read = Signature(json.loads(json.dumps(sig)))
    assert {**read, "args": tuple(read.args)} == sig
    again = read.clone((0,), {"more": 1})
    assert again == sig.clone((0,), {"more": 1})
