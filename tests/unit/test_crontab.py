"""Crontabs beside cronsim, Celery and a walk minute by minute."""

from __future__ import annotations

import datetime as dt
import itertools
import pickle
import warnings
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from celeriac.kernel.walltime import first_change, instant_of, offset_at
from celeriac.schedules import ParseException, cron, crontab

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from celery import Celery
    from celery.schedules import crontab as celery_crontab

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",  # half an hour
    "America/Santiago",  # at midnight
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "Africa/Cairo",
    "America/St_Johns",
    "Europe/Dublin",
]
START = dt.datetime(2005, 1, 1, tzinfo=dt.UTC).timestamp()
END = dt.datetime(2037, 1, 1, tzinfo=dt.UTC).timestamp()

zones = st.sampled_from(ZONES)


def changes(zone: ZoneInfo) -> list[int]:
    """Return the instants at which the zone changes its offset."""
    found, at = [], int(START)
    while (change := first_change(zone, at, int(END))) is not None:
        found.append(change)
        at = change
    return found


CHANGES = {name: changes(ZoneInfo(name)) for name in ZONES}


@st.composite
def instants(draw: Any, zone: str) -> int:
    """Return an instant, near a change of clocks more often than not."""
    near = CHANGES[zone]
    if near and draw(st.integers(0, 3)):
        return int(draw(st.sampled_from(near)) + draw(st.integers(-100_000, 100_000)))
    return draw(st.integers(int(START), int(END)))


@st.composite
def fields(draw: Any, low: int, high: int) -> str:
    """Return a field of numbers, ranges, steps and stars."""

    def part() -> str:
        kind = draw(st.integers(0, 4))
        if kind == 0:
            return "*"
        if kind == 1:
            return f"*/{draw(st.integers(1, high))}"
        first = draw(st.integers(low, high))
        if kind == 2 or first == high:  # "3-3/2" is "3/2" to cronsim
            return str(first)
        last = draw(st.integers(first + 1, high))
        return f"{first}-{last}" + (f"/{draw(st.integers(1, 9))}" if kind == 3 else "")

    return ",".join(part() for _ in range(draw(st.integers(1, 3))))


lines = st.tuples(fields(0, 59), fields(0, 23), fields(1, 31), fields(1, 12), fields(0, 6)).map(
    " ".join
)
rare = st.sampled_from(["30 2 * * *", "0 0 * * *", "*/15 1-3 * * *", "15 * * * *", "0,30 2 * * 0"])


def whole(line: str) -> bool:
    """Tell whether minute or hour name every value without saying so by a star."""
    minute, hour = line.split()[:2]
    found = crontab(minute=minute, hour=hour)
    return (len(found.minute) == 60 and not minute.startswith("*")) or (
        len(found.hour) == 24 and not hour.startswith("*")
    )


CRONSIM_ERRS = ("Australia/Lord_Howe", "America/St_Johns")
"""Where clocks are moved by half an hour it leaves out half of the hours after that day; where they
are moved at a minute past midnight it may never come to an end.  The walk below checks both."""


@given(st.data(), zones, lines | rare)
@settings(max_examples=200)
def test_as_cronsim(data: Any, zone: str, line: str) -> None:
    assume(not whole(line) and zone not in CRONSIM_ERRS)
    start = data.draw(instants(zone))
    tz = ZoneInfo(zone)
    try:
        ours = cron(line, timezone=zone)
    except ParseException:
        with pytest.raises(Exception):
            next(CronSim(line, dt.datetime.fromtimestamp(start, tz)))
        return
    theirs = CronSim(line, dt.datetime.fromtimestamp(start, tz))
    at: float | None = start
    expected: list[int] = []
    wild = any(field.startswith("*") for field in line.split()[:2])
    for moment in theirs:
        instant = int(moment.timestamp())
        # Where a day begins in a gap, cronsim names that midnight, whatever hours are asked for; what
        # keeps its beat has no run to make up for there.  The walk below checks those days.
        assume(not wild or dt.datetime.fromtimestamp(instant, tz).hour == moment.hour)
        # cronsim names one instant once for each of the times that a gap swallowed
        if instant > (expected[-1] if expected else start):
            expected.append(instant)
        if len(expected) == 3 or instant > start + 6 * 366 * 86_400:
            break
    found = []
    for _ in expected:
        assert at is not None
        at = ours.next_after(at)
        found.append(at)
    assert found == expected, [str(dt.datetime.fromtimestamp(t, tz)) for t in (*found, *expected)]


CELERY = {zone: Celery("t", set_as_current=False, timezone=zone) for zone in ZONES}


def crontab_fields(line: str) -> dict[str, str]:
    """Return the fields of a line by Celery's names."""
    names = "minute hour day_of_month month_of_year day_of_week".split()
    return dict(zip(names, line.split(), strict=True))


@given(st.data(), zones, lines | rare)
@settings(max_examples=150)
def test_as_celery_on_days_without_a_change(data: Any, zone: str, line: str) -> None:
    start = data.draw(instants(zone))
    tz = ZoneInfo(zone)
    theirs: Any = None
    now = dt.datetime.fromtimestamp(start, tz)
    try:
        theirs = celery_crontab(**crontab_fields(line), app=CELERY[zone], nowfun=lambda: now)
    except ValueError:
        with pytest.raises(ParseException):
            crontab.from_string(line)
        return
    ours = crontab.from_string(line, timezone=zone, nowfun=lambda: now)
    following = ours.next_after(start)
    assert following is not None
    assume(following - start < 40 * 86_400)
    assume(not any(start - 90_000 < c < following + 90_000 for c in CHANGES[zone]))
    assert (ours.minute, ours.hour, ours.day_of_week) == (
        theirs.minute,
        theirs.hour,
        theirs.day_of_week,
    )
    assert ours.remaining_estimate(now) == theirs.remaining_estimate(now)
    last = now - dt.timedelta(seconds=data.draw(st.integers(1, 80_000)))
    assume(not any(last.timestamp() - 90_000 < c < start for c in CHANGES[zone]))
    mine, other = ours.is_due(last), theirs.is_due(last)
    assert mine.is_due == other.is_due
    assert mine.next == pytest.approx(other.next, abs=1e-3)


@given(st.data(), zones, lines | rare)
@settings(max_examples=150)
def test_as_a_walk_minute_by_minute(data: Any, zone: str, line: str) -> None:
    """Times that follow the wall clock are all minutes at which it shows a match, and no other."""
    minute, *rest = line.split()
    line = " ".join(["*/7", *rest])
    start = data.draw(instants(zone)) // 60 * 60
    tz = ZoneInfo(zone)
    found = crontab.from_string(line, timezone=zone) if _comes(line) else None
    assume(found is not None)
    assert found is not None
    expected = []
    for at in range(start + 60, start + 2 * 86_400, 60):
        wall = dt.datetime.fromtimestamp(at, tz)
        if (
            wall.minute in found.minute
            and wall.hour in found.hour
            and wall.day in found.day_of_month
            and wall.month in found.month_of_year
            and wall.isoweekday() % 7 in found.day_of_week
        ):
            expected.append(at)
    seen, at = [], start
    while (following := found.next_after(at)) is not None and following < start + 2 * 86_400:
        seen.append(following)
        at = int(following)
    assert seen == expected


def _comes(line: str) -> bool:
    try:
        crontab.from_string(line)
    except ParseException:
        return False
    return True


@given(st.data(), zones)
def test_a_fixed_time_comes_once_a_day(data: Any, zone: str) -> None:
    hour, minute = data.draw(st.integers(0, 23)), data.draw(st.integers(0, 59))
    at = float(data.draw(instants(zone)))
    ours = crontab(minute=minute, hour=hour, timezone=zone)
    days = []
    for _ in range(6):
        following = ours.next_after(at)
        assert following is not None and following > at
        at = following
        days.append(dt.datetime.fromtimestamp(at, ZoneInfo(zone)).date())
    assert all(b - a == dt.timedelta(days=1) for a, b in itertools.pairwise(days))


@pytest.mark.parametrize(
    ("zone", "line", "start", "expected"),
    [
        # Put forward: 2:30 is not, and comes at 3:00.
        (
            "Europe/Berlin",
            "30 2 * * *",
            "2026-03-28T12",
            ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"],
        ),
        (
            "Europe/Berlin",
            "0,30 2 * * *",
            "2026-03-29T00",
            ["2026-03-29T03:00+02:00", "2026-03-30T02:00+02:00"],
        ),
        (
            "Europe/Berlin",
            "0 * * * *",
            "2026-03-28T23:30",
            ["2026-03-29T01:00+01:00", "2026-03-29T03:00+02:00"],
        ),
        # Put back: 2:30 is twice, and comes the first time.
        (
            "Europe/Berlin",
            "30 2 * * *",
            "2026-10-24T12",
            ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"],
        ),
        (
            "Europe/Berlin",
            "0 * * * *",
            "2026-10-24T23:30",
            ["2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00", "2026-10-25T03:00+01:00"],
        ),
        (
            "Australia/Lord_Howe",
            "15 2 * * *",
            "2026-10-03T12",
            ["2026-10-04T02:30+11:00", "2026-10-05T02:15+11:00"],
        ),
        (
            "America/Santiago",
            "0 0 * * *",
            "2026-09-05T12",
            ["2026-09-06T01:00-03:00", "2026-09-07T00:00-03:00"],
        ),
        # The day that Samoa left out.
        (
            "Pacific/Apia",
            "0 12 * * *",
            "2011-12-30T00",
            ["2011-12-31T00:00+14:00", "2011-12-31T12:00+14:00"],
        ),
    ],
)
def test_changes_of_clocks(zone: str, line: str, start: str, expected: list[str]) -> None:
    at: float | None = dt.datetime.fromisoformat(start).replace(tzinfo=dt.UTC).timestamp()
    for kind in (crontab.from_string, cron):
        following, found = at, []
        for _ in expected:
            assert following is not None
            following = kind(line, timezone=zone).next_after(following)  # type: ignore[operator]
            assert following is not None
            found.append(
                dt.datetime.fromtimestamp(following, ZoneInfo(zone)).isoformat(timespec="minutes")
            )
        assert found == expected


@given(st.data(), zones)
def test_wall_times_and_instants(data: Any, zone: str) -> None:
    tz = ZoneInfo(zone)
    at = data.draw(instants(zone))
    wall = at + offset_at(tz, at)
    found = instant_of(tz, wall)
    assert found <= at
    assert found + offset_at(tz, found) == wall


@pytest.mark.parametrize(
    ("fields", "values"),
    [
        ({"minute": "*/15"}, {0, 15, 30, 45}),
        ({"minute": "50-10/5"}, {50, 55, 0, 5, 10}),
        ({"minute": (1, 2)}, {1, 2}),
        ({"minute": 7}, {7}),
        ({"hour": "8-17/3"}, {8, 11, 14, 17}),
        ({"day_of_week": "fri-mon"}, {5, 6, 0, 1}),
        ({"day_of_week": "Sunday,wed"}, {0, 3}),
        ({"month_of_year": "jan,Dec"}, {1, 12}),
        ({"month_of_year": "*/5"}, {1, 6, 11}),
        ({"day_of_month": {1, 15}}, {1, 15}),
        ({"minute": " 1, 2"}, {1, 2}),
    ],
)
def test_forms_of_fields(fields: dict[str, Any], values: set[int]) -> None:
    (name,) = fields
    found = crontab(**fields)
    assert getattr(found, name) == values == getattr(celery_crontab(**fields), name)
    assert repr(found) == repr(celery_crontab(**fields))
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize(
    ("fields", "saying"),
    [
        ({"minute": 60}, "minute: 60 is not from 0 to 59"),
        ({"minute": "-1"}, "cannot be read"),
        ({"minute": "1,,2"}, "cannot be read"),
        ({"minute": "5/10"}, "a step needs a range"),
        ({"minute": "*/0"}, "step of 0"),
        ({"hour": "noon"}, "neither a number"),
        ({"day_of_month": 0}, "not from 1 to 31"),
        ({"day_of_week": 7}, "not from 0 to 6"),
        ({"day_of_week": []}, "names no value"),
        ({"day_of_month": 31, "month_of_year": "2,4"}, "never comes"),
    ],
)
def test_wrong_fields(fields: dict[str, Any], saying: str) -> None:
    with pytest.raises(ParseException, match=saying) as error:
        crontab(**fields)
    assert isinstance(error.value, ValueError)


@pytest.mark.parametrize("wrong", [1.5, None, True, [1.5]])
def test_wrong_types(wrong: Any) -> None:
    with pytest.raises(TypeError, match="minute"):
        crontab(minute=wrong)


def test_posix_days() -> None:
    """By cron's rule either day field will do; by Celery's both must."""
    noon = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC).timestamp()
    posix, both = cron("0 0 13 * 5"), crontab(0, 0, day_of_month=13, day_of_week=5)

    def day(found: float | None) -> dt.date:
        assert found is not None
        return dt.datetime.fromtimestamp(found, dt.UTC).date()

    assert day(posix.next_after(noon)) == dt.date(2026, 1, 2)
    assert day(both.next_after(noon)) == dt.date(2026, 2, 13)
    assert day(cron("0 0 * * 7").next_after(noon)) == dt.date(2026, 1, 4)
    assert cron("@Daily").next_after(noon) == cron("0 0 * * *").next_after(noon)
    leap = cron("0 0 29 2 *").next_after(noon)
    assert day(leap) == dt.date(2028, 2, 29)
    assert crontab(0, 0, day_of_month=29, month_of_year=2, day_of_week=1).next_after(noon)


@pytest.mark.parametrize(
    "wrong", ["", "* * * *", "60 * * * *", "5-1 * * * *", "0 0 30 2 *", "@soon"]
)
def test_wrong_lines(wrong: str) -> None:
    with pytest.raises(ParseException):
        cron(wrong)
