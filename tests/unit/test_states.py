"""Task states: Celery's names, sets and order."""

from __future__ import annotations

from itertools import pairwise

import pytest
from celery import states as celery_states

from celeriac.kernel import states


@pytest.mark.parametrize(
    "name",
    [
        "PENDING",
        "RECEIVED",
        "STARTED",
        "SUCCESS",
        "FAILURE",
        "REVOKED",
        "REJECTED",
        "RETRY",
        "IGNORED",
        "READY_STATES",
        "UNREADY_STATES",
        "EXCEPTION_STATES",
        "PROPAGATE_STATES",
        "ALL_STATES",
        "PRECEDENCE",
    ],
)
def test_as_in_celery(name: str) -> None:
    assert getattr(states, name) == getattr(celery_states, name)


@pytest.mark.parametrize("name", [*sorted(states.ALL_STATES), "REJECTED", "PROGRESS", ""])
def test_precedence_as_in_celery(name: str) -> None:
    assert states.precedence(name) == celery_states.precedence(name)


def test_order_follows_precedence() -> None:
    names = [name or "PROGRESS" for name in states.PRECEDENCE]
    for more, less in pairwise(names):
        assert states.state(more) > less
        assert states.state(less) < more
        assert states.state(more) >= states.state(more)
        assert states.state(less) <= states.state(less)
        assert not states.state(more) < less
        assert not states.state(less) > more


def test_a_state_is_a_string() -> None:
    value = states.state("SUCCESS")
    assert value == "SUCCESS"
    assert hash(value) == hash("SUCCESS")
    assert value in states.READY_STATES
    assert f"{value}" == "SUCCESS"


def test_sets_share_nothing_that_contradicts() -> None:
    assert not states.READY_STATES & states.UNREADY_STATES
    assert states.PROPAGATE_STATES <= states.READY_STATES
    assert states.PROPAGATE_STATES <= states.EXCEPTION_STATES
    assert states.ALL_STATES <= states.READY_STATES | states.UNREADY_STATES
