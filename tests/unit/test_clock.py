"""The clocks: one that is the machine's, one that a test moves."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.kernel.clock import SYSTEM_CLOCK, Clock, ManualClock, SystemClock


def test_system_clock_is_the_machines() -> None:
    clock: Clock = SystemClock()
    before = time.time(), time.monotonic()
    now = clock.time(), clock.monotonic()
    after = time.time(), time.monotonic()
    assert before[0] <= now[0] <= after[0]
    assert before[1] <= now[1] <= after[1]
    assert isinstance(SYSTEM_CLOCK, SystemClock)


def test_manual_clock_stands_still() -> None:
    clock: Clock = ManualClock(start=50.0)
    assert clock.time() == clock.time() == 50.0
    assert clock.monotonic() == clock.monotonic()


@given(st.lists(st.floats(min_value=0, max_value=1e6), max_size=20))
def test_advance_moves_both(steps: list[float]) -> None:
    clock = ManualClock()
    wall, mono = clock.time(), clock.monotonic()
    for step in steps:
        clock.advance(step)
    assert clock.time() - wall == pytest.approx(sum(steps), abs=1e-3)
    assert clock.monotonic() - mono == pytest.approx(sum(steps), abs=1e-3)


def test_advance_never_goes_back() -> None:
    clock = ManualClock()
    before = clock.time(), clock.monotonic()
    with pytest.raises(ValueError, match=r"-0\.1"):
        clock.advance(-0.1)
    assert (clock.time(), clock.monotonic()) == before


def test_manual_clocks_are_apart() -> None:
    one, other = ManualClock(), ManualClock()
    one.advance(5)
    assert one.time() - other.time() == 5
