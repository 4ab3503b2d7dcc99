"""Rate limits: Celery's notation, and a bucket that never lets through more than it should."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.kernel.errors import ImproperlyConfigured
from celeriac.kernel.rate import TokenBucket, parse_rate


@pytest.mark.parametrize(
    ("rate", "per_second"),
    [
        ("10/s", 10.0),
        ("100/m", 100 / 60),
        ("1000/h", 1000 / 3600),
        ("10", 10.0),
        ("0.5/s", 0.5),
        (3, 3.0),
        (2.5, 2.5),
        (None, 0.0),
        ("", 0.0),
        (0, 0.0),
        ("0/m", 0.0),
    ],
)
def test_parse_rate(rate: str | float | None, per_second: float) -> None:
    assert parse_rate(rate) == per_second


@pytest.mark.parametrize(
    "rate", ["fast", "10/d", "/s", "10/s/s", "ten/m", "-1/s", -1, "nan", "inf/s", float("inf")]
)
def test_what_is_no_rate_is_refused_with_examples(rate: str | float) -> None:
    with pytest.raises(ImproperlyConfigured, match="'100/m'"):
        parse_rate(rate)


@given(st.text())
def test_any_text_is_a_rate_or_refused(text: str) -> None:
    try:
        found = parse_rate(text)
    except ImproperlyConfigured:
        return
    assert 0.0 <= found < float("inf")


def test_a_bucket_is_full_at_first_and_refills() -> None:
    bucket = TokenBucket(10.0, burst=2.0)
    assert [bucket.take(100.0) for _ in range(3)] == [True, True, False]
    assert bucket.wait(100.0) == pytest.approx(0.1)
    assert not bucket.take(100.05)
    assert bucket.take(100.11)
    assert [bucket.take(200.0) for _ in range(3)] == [True, True, False], "no more than burst"


def test_a_clock_that_steps_back_gives_nothing_away() -> None:
    bucket = TokenBucket(1.0)
    assert bucket.take(100.0)
    assert not bucket.take(50.0)
    assert not bucket.take(50.5)
    assert bucket.wait(50.5) == pytest.approx(0.5)


@given(
    st.floats(0.1, 1000),
    st.floats(1, 20),
    st.lists(st.floats(0, 5), min_size=1, max_size=60),
)
def test_never_more_than_burst_and_rate(rate: float, burst: float, steps: list[float]) -> None:
    bucket, now, taken = TokenBucket(rate, burst), 1000.0, 0
    for step in steps:
        now += step
        taken += bucket.take(now)
    assert taken <= burst + rate * (now - 1000.0) + 1e-3


@given(st.floats(0.01, 1000), st.integers(1, 20))
def test_after_the_wait_there_is_a_token(rate: float, times: int) -> None:
    bucket, now = TokenBucket(rate), 1000.0
    for _ in range(times):
        now += bucket.wait(now) + 1e-6
        assert bucket.take(now)
