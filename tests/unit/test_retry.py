"""When to try again: Celery's backoff, which errors, and the pauses of a publish."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.kernel.errors import Ignore, Reject, Retry
from celeriac.kernel.retry import backoff, policy_delays, retries_for


@pytest.mark.parametrize(
    ("factor", "retries", "maximum", "seconds"),
    [
        (1, 0, 600, 1),
        (1, 3, 600, 8),
        (5, 2, 600, 20),
        (1, 20, 600, 600),
        (2, 100_000, 600, 600),
        (0.5, 0, 600, 0.5),
        (0, 5, 600, 0),
    ],
)
def test_backoff_doubles_up_to_the_maximum(
    factor: float, retries: int, maximum: float, seconds: float
) -> None:
    assert backoff(factor, retries, maximum, jitter=False) == seconds


def test_full_jitter_takes_a_whole_number_from_nought_to_that() -> None:
    asked = []

    def random(below: int) -> int:
        asked.append(below)
        return below - 1

    assert backoff(1, 3, 600, True, random) == 8.0
    assert backoff(1, 30, 600, True, random) == 600.0
    assert backoff(1, 3, 600, True, lambda below: 0) == 0.0
    assert asked == [9, 601], "celery.utils.time asks randrange(countdown + 1)"


@given(st.floats(0, 100), st.integers(0, 10_000), st.floats(0, 10_000), st.booleans())
def test_backoff_is_within_bounds(
    factor: float, retries: int, maximum: float, jitter: bool
) -> None:
    assert 0.0 <= backoff(factor, retries, maximum, jitter) <= maximum


class Mine(ConnectionError):
    """An error below one that is listed."""


@pytest.mark.parametrize(
    ("error", "among", "but_not", "again"),
    [
        (ValueError(), (), (), False),
        (ValueError(), (ValueError,), (), True),
        (ValueError(), [ValueError], [], True),
        (Mine(), (OSError,), (), True),
        (Mine(), (OSError,), (Mine,), False),
        (Mine(), (Mine,), (OSError,), False),
        (ConnectionError(), (OSError,), (Mine,), True),
        (KeyError(), (OSError, ValueError), (), False),
        (Retry(), (Exception,), (), False),
        (Ignore(), (Exception,), (), False),
        (Reject(), (Exception,), (), False),
        (SystemExit(), (Exception,), (), False),
    ],
)
def test_which_errors(
    error: BaseException,
    among: tuple[type[BaseException], ...],
    but_not: tuple[type[BaseException], ...],
    again: bool,
) -> None:
    assert retries_for(error, among, but_not) is again


def test_pauses_of_a_policy() -> None:
    policy = {"max_retries": 7, "interval_start": 0, "interval_step": 0.25, "interval_max": 1}
    assert list(policy_delays(policy)) == [0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert list(policy_delays({"max_retries": 2, "interval_start": 3, "interval_max": 5})) == [
        3,
        3.2,
    ]
    assert list(policy_delays({})) == [0, 0.2, 0.4]
    assert list(policy_delays({"max_retries": 0})) == []


def test_a_policy_without_end() -> None:
    assert len(list(islice(policy_delays({"max_retries": None}), 1000))) == 1000


@given(st.integers(0, 50), st.floats(0, 10), st.floats(0, 10), st.floats(0, 10))
def test_pauses_grow_and_stay_below_the_maximum(
    count: int, start: float, step: float, most: float
) -> None:
    pauses = list(
        policy_delays(
            {
                "max_retries": count,
                "interval_start": start,
                "interval_step": step,
                "interval_max": most,
            }
        )
    )
    assert len(pauses) == count
    assert pauses == sorted(pauses)
    assert all(0 <= pause <= most for pause in pauses)
