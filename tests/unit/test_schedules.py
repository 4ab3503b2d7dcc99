"""Schedules and their Celery names; the sun beside the almanac."""

from __future__ import annotations

import datetime as dt
import pickle
from typing import Any

import pytest

from celeriac.schedules import ParseException, cron, maybe_schedule, schedule, solar

NOW = dt.datetime(2026, 6, 20, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("place", "event", "expected"),
    [
        # From timeanddate.com and the US Naval Observatory, in UTC.
        ((51.4769, 0.0), "sunrise", "2026-06-21T03:43"),
        ((51.4769, 0.0), "sunset", "2026-06-20T20:21"),
        ((40.7128, -74.006), "sunset", "2026-06-21T00:31"),
        ((-33.8688, 151.2093), "sunrise", "2026-06-20T21:00"),
        ((0.0, 0.0), "solar_noon", "2026-06-20T12:02"),
    ],
)
def test_the_sun(place: tuple[float, float], event: str, expected: str) -> None:
    found = solar(event, *place).next_after(NOW.timestamp())
    wanted = dt.datetime.fromisoformat(expected).replace(tzinfo=dt.UTC).timestamp()
    assert found == pytest.approx(wanted, abs=120)


def test_the_suns_day_in_order() -> None:
    events = (
        "dawn_astronomical dawn_nautical dawn_civil sunrise solar_noon sunset dusk_civil "
        "dusk_nautical dusk_astronomical"
    ).split()
    start = dt.datetime(2026, 3, 20, 0, tzinfo=dt.UTC).timestamp()
    found = [solar(event, 48.0, 2.0).next_after(start) for event in events]
    assert found == sorted(found)  # type: ignore[type-var]


def test_polar_night() -> None:
    """Tromsø: the sun does not set in June, and comes back in January."""
    summer = solar("sunset", 69.65, 18.96).next_after(NOW.timestamp())
    assert summer is not None
    assert dt.datetime.fromtimestamp(summer, dt.UTC).month == 7
    winter = dt.datetime(2026, 12, 1, tzinfo=dt.UTC).timestamp()
    back = solar("sunrise", 69.65, 18.96).next_after(winter)
    assert back is not None
    away = dt.datetime.fromtimestamp(back, dt.UTC).date() - dt.date(2027, 1, 15)
    assert abs(away) <= dt.timedelta(days=3)
    pole = solar("dusk_astronomical", 90.0, 0.0).next_after(NOW.timestamp())
    assert pole is None or pole > NOW.timestamp()


@pytest.mark.parametrize("wrong", [("noon", 0, 0), ("sunset", 91, 0), ("sunset", 0, 181)])
def test_no_such_sun(wrong: Any) -> None:
    with pytest.raises(ValueError):
        solar(*wrong)


@pytest.mark.parametrize(
    "made",
    [schedule(30), schedule(90, relative=True), cron("0 4 * * 1"), solar("sunset", 1.0, 2.0)],
)
def test_they_travel(made: Any) -> None:
    again = pickle.loads(pickle.dumps(made))
    assert again == made
    assert hash(again) == hash(made)
    assert again.next_after(1e9) == made.next_after(1e9)


def test_intervals() -> None:
    made = schedule(30, nowfun=lambda: NOW)
    assert repr(made) == "<freq: 30.00 seconds>"
    assert made == 30 or made.run_every == dt.timedelta(seconds=30)
    assert made.is_due(NOW - dt.timedelta(seconds=10)) == (False, 20)
    assert made.is_due(NOW - dt.timedelta(seconds=31)) == (True, 30)
    naive = (NOW - dt.timedelta(seconds=10)).replace(tzinfo=None)
    assert made.remaining_estimate(naive) == dt.timedelta(seconds=20)


@pytest.mark.parametrize("wrong", [0, -1, None, "30", True, float("nan"), float("inf")])
def test_no_interval(wrong: Any) -> None:
    with pytest.raises(ParseException):
        schedule(wrong)


def test_maybe_schedule() -> None:
    assert maybe_schedule(10) == schedule(10)
    assert maybe_schedule(dt.timedelta(minutes=1)).run_every == dt.timedelta(minutes=1)  # type: ignore[attr-defined]
    with pytest.raises(ParseException, match="no schedule"):
        maybe_schedule("hourly")
