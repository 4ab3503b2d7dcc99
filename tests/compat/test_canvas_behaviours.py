"""Every canvas behaviour under Celery and under celeriac: the same answer, or a difference with a reason.

Celery runs eagerly and with a worker on a Redis server of the test's own; celeriac eagerly, with a
worker in this process, and with a worker process on SQLite and on Redis.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.compat.canvas_behaviours import BEHAVIOURS, Behaviour
from tests.compat.differences import BUGS, DIFFERENCES
from tests.compat.sides import Side, open_side

SIDES = ["celery-eager", "celery-redis"]
if importlib.util.find_spec("celeriac.canvas") is not None:
    SIDES += ["celeriac-eager", "celeriac-memory", "celeriac-sqlite", "celeriac-redis"]

DOCS = Path(__file__).parents[2] / "docs" / "from-celery.md"

pytestmark = [
    # Celery's own, and its connections that the collector closes.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:celery"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:task_allow_error_cb:PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Results are not stored in backend:RuntimeWarning"),
]


@pytest.fixture(scope="module", params=SIDES)
def side(request: Any, tmp_path_factory: Any) -> Iterator[Side]:
    with open_side(request.param, tmp_path_factory.mktemp(request.param)) as side:
        yield side


def expected(behaviour: Behaviour, side: Side) -> Any:
    """Return the answer that a side should give."""
    if side.library == "celeriac":
        for difference in DIFFERENCES:
            if difference.behaviour == behaviour.name and difference.eager in (None, side.eager):
                return difference.ours
    return behaviour.eager if side.eager else behaviour.answer


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_behaviour(side: Side, name: str, request: Any) -> None:
    behaviour = BEHAVIOURS[name]
    if side.eager and behaviour.not_eager:
        pytest.skip("it needs a worker")
    for bug in (name, f"{side.name}: {name}"):
        if side.library == "celeriac" and bug in BUGS:
            request.applymarker(pytest.mark.xfail(reason=BUGS[bug], strict=True))
    assert behaviour.run(side) == expected(behaviour, side)


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda d: d.behaviour)
def test_difference_is_one_and_is_documented(difference: Any) -> None:
    behaviour = BEHAVIOURS[difference.behaviour]
    theirs = [behaviour.eager] if difference.eager is not False else []
    theirs += [behaviour.answer] if not difference.eager else []
    assert any(repr(answer) != repr(difference.ours) for answer in theirs), "no difference"
    assert len(difference.reason) > 20
    assert f"`{difference.behaviour}`" in DOCS.read_text(), "docs/from-celery.md does not tell"
