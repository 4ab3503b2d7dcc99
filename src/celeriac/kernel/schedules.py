"""When something is due: intervals, crontabs and schedules of the user's own, with Celery's names.

The engine asks one question, `next_after(instant)`, whose answer depends on nothing else, so that
any number of schedulers agree on it.  `is_due` and `remaining_estimate` are Celery's questions; a
class of the user's may answer either of them instead.

Owns: Schedule, schedule, crontab, cron, clocked, schedstate, maybe_schedule.  May import: kernel.
"""

from __future__ import annotations

import datetime as _dt
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple
from zoneinfo import ZoneInfo

from celeriac.kernel.clock import LOCAL, SYSTEM_CLOCK
from celeriac.kernel.crontab import (
    DAY_OF_MONTH,
    DAY_OF_WEEK,
    HOUR,
    MINUTE,
    MONTH_OF_YEAR,
    CronTimes,
    ParseException,
    parse_celery,
    parse_posix,
)

default_app: list[Callable[[], Any]] = []
"""Returns the app of schedules that were given none; set where apps are."""


class schedstate(NamedTuple):  # noqa: N801 - Celery's name
    """What `is_due` answers."""

    is_due: bool
    next: float
    """Seconds until it is due, or until it is due again."""


def zone_of(zone: str | _dt.tzinfo) -> _dt.tzinfo:
    """Return a time zone by its name.

    :raises ParseException: there is none of that name.
    """
    if isinstance(zone, _dt.tzinfo):
        return zone
    if zone.upper() == "UTC":
        return _dt.UTC
    if zone == str(LOCAL):
        return LOCAL
    try:
        return ZoneInfo(zone)
    except (LookupError, OSError, ValueError) as error:
        raise ParseException(f"no time zone is called {zone!r}") from error


def _instant(moment: _dt.datetime) -> float:
    """Return the unix seconds of a datetime; a naive one is UTC, as in Celery."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=_dt.UTC)).timestamp()


class Schedule:
    """When something is due.

    A class of one's own defines one of these, and the rest follows from it:

    - `next_after(instant)`, which is best: a function of `instant` and nothing else;
    - `remaining_estimate(last_run_at)`, a timedelta from now, as in Celery;
    - `is_due(last_run_at)`, which says at each time it asked to be called whether to run.

    :param nowfun: returns the current time, instead of the app's clock.
    :param app: whose time zone counts; the current app where None.
    :param timezone: a zone of its own, by name or as a tzinfo.
    """

    asked: ClassVar[bool] = False
    """Whether `is_due` is the user's own, so that it must be asked each time."""

    def __init__(
        self,
        nowfun: Callable[[], _dt.datetime] | None = None,
        app: Any = None,
        *,
        timezone: str | _dt.tzinfo | None = None,
    ) -> None:
        self.nowfun = nowfun
        self._app = app
        self.timezone = None if timezone is None else zone_of(timezone)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = vars(cls)
        if "next_after" in own:
            cls.asked = False
        elif "is_due" in own:
            cls.asked = True
        elif "remaining_estimate" in own:
            cls.asked = False
            cls.next_after = Schedule.next_after  # type: ignore[method-assign]
            cls.first_after = Schedule.first_after  # type: ignore[method-assign]

    # -- what the engine asks -------------------------------------------------------------------

    def next_after(self, instant: float) -> float | None:
        """Return the first time after `instant`, in unix seconds; None where there is none."""
        left = self.remaining_estimate(_dt.datetime.fromtimestamp(instant, self.tz))
        found = _instant(self.now()) + left.total_seconds()
        return max(found, instant + 0.001)

    def first_after(self, at: float, now: float) -> float | None:
        """Return the first time after `now` of those that follow `at`; `at` is not after `now`."""
        return self.next_after(now)

    # -- Celery's names -------------------------------------------------------------------------

    @property
    def app(self) -> Any:
        """The app whose time zone and clock count; None where there is none."""
        if getattr(self, "_app", None) is None and default_app:
            return default_app[0]()
        return getattr(self, "_app", None)

    @app.setter
    def app(self, app: Any) -> None:
        self._app = app

    @property
    def tz(self) -> _dt.tzinfo:
        """The time zone: its own, the app's, or UTC."""
        own: _dt.tzinfo | None = getattr(self, "timezone", None)
        if own is not None:
            return own
        app = self.app
        zone: _dt.tzinfo = _dt.UTC if app is None else app.timezone
        return zone

    @property
    def utc_enabled(self) -> bool:
        """The app's `enable_utc`; times are kept in UTC in any case."""
        app = self.app
        return True if app is None else bool(app.conf.enable_utc)

    def now(self) -> _dt.datetime:
        """Return the current time."""
        nowfun: Callable[[], _dt.datetime] | None = getattr(self, "nowfun", None)
        if nowfun is not None:
            return nowfun()
        app = self.app
        clock = SYSTEM_CLOCK if app is None else app.clock
        return _dt.datetime.fromtimestamp(clock.time(), self.tz)

    def remaining_estimate(self, last_run_at: _dt.datetime) -> _dt.timedelta:
        """Return how long it is from now until the first time after `last_run_at`."""
        found = self.next_after(_instant(last_run_at))
        if found is None:
            return _dt.timedelta.max
        return _dt.timedelta(seconds=found - _instant(self.now()))

    def is_due(self, last_run_at: _dt.datetime) -> Any:
        """Return whether a time has come since `last_run_at`, and the seconds until the next."""
        left = self.remaining_estimate(last_run_at).total_seconds()
        if left > 0:
            return schedstate(False, left)
        again = self.remaining_estimate(self.now()).total_seconds()
        return schedstate(True, max(again, 0.0))

    def maybe_make_aware(self, moment: _dt.datetime, naive_as_utc: bool = True) -> _dt.datetime:
        """Return a datetime in the schedule's zone; a naive one is UTC, unless told otherwise."""
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=_dt.UTC if naive_as_utc else self.tz)
        return moment.astimezone(self.tz)

    def to_local(self, moment: _dt.datetime) -> _dt.datetime:
        """Return a datetime in the schedule's zone."""
        return self.maybe_make_aware(moment)

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__


class schedule(Schedule):  # noqa: N801 - Celery's name
    """Every so many seconds, from when it was first seen; changes of clocks mean nothing to it.

    :param run_every: seconds or a timedelta.
    :param relative: on whole days, hours or minutes of the wall clock, whichever fits the length.
    :raises ParseException: the length is not positive.
    """

    def __init__(
        self,
        run_every: Any = None,
        relative: bool = False,
        nowfun: Callable[[], _dt.datetime] | None = None,
        app: Any = None,
        *,
        timezone: str | _dt.tzinfo | None = None,
    ) -> None:
        super().__init__(nowfun, app, timezone=timezone)
        if isinstance(run_every, bool) or not isinstance(run_every, (int, float, _dt.timedelta)):
            raise ParseException(f"an interval is seconds or a timedelta, not {run_every!r:.100}")
        if not isinstance(run_every, _dt.timedelta):
            try:
                run_every = _dt.timedelta(seconds=run_every)
            except (ValueError, OverflowError) as error:
                raise ParseException(f"an interval cannot be {run_every!r} seconds") from error
        if run_every <= _dt.timedelta(0):
            raise ParseException(f"an interval must be longer than {run_every.total_seconds():g} s")
        self.run_every: _dt.timedelta = run_every
        self.relative = relative

    def next_after(self, instant: float) -> float | None:
        """Return `instant` and one interval."""
        found = instant + self.seconds
        if not self.relative:
            return found
        wall = _dt.datetime.fromtimestamp(found, self.tz)
        whole = self._whole(wall).timestamp()
        return whole if whole > instant else found

    def first_after(self, at: float, now: float) -> float | None:
        """Return the first time after `now` at whole intervals from `at`."""
        skipped = max(0, int((now - at) / self.seconds) - 1)
        found: float | None = at + skipped * self.seconds
        while found is not None and found <= now:
            found = self.next_after(found)
        return found

    def _whole(self, wall: _dt.datetime) -> _dt.datetime:
        if self.run_every >= _dt.timedelta(days=1):
            return wall.replace(hour=0, minute=0, second=0, microsecond=0)
        if self.run_every >= _dt.timedelta(hours=1):
            return wall.replace(minute=0, second=0, microsecond=0)
        if self.run_every >= _dt.timedelta(minutes=1):
            return wall.replace(second=0, microsecond=0)
        return wall.replace(microsecond=0)

    @property
    def seconds(self) -> float:
        """The length in seconds."""
        return float(self.run_every.total_seconds())

    @property
    def human_seconds(self) -> str:
        """The length in words."""
        seconds = self.seconds
        for size, unit in ((86_400, "day"), (3600, "hour"), (60, "minute")):
            if seconds >= size:
                count = seconds / size
                return f"{count:.2f} {unit}{'' if count == 1 else 's'}"
        return f"{seconds:.2f} seconds"

    def __repr__(self) -> str:
        return f"<freq: {self.human_seconds}>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, schedule):
            return self.run_every == other.run_every and self.relative == other.relative
        return bool(self.run_every == other)

    def __hash__(self) -> int:
        return hash(self.run_every)

    def __reduce__(self) -> Any:
        return self.__class__, (self.run_every, self.relative, self.nowfun)


class crontab(Schedule):  # noqa: N801 - Celery's name
    """At times of the wall clock; a day must match both `day_of_week` and `day_of_month`.

    Each field is a number, a text such as `*/15`, `8-17/2`, `mon-fri`, `1,3,5`, or several numbers.

    :raises ParseException: a field cannot be read, or no day ever matches.
    :raises TypeError: a field is of another type.
    """

    def __init__(
        self,
        minute: Any = "*",
        hour: Any = "*",
        day_of_week: Any = "*",
        day_of_month: Any = "*",
        month_of_year: Any = "*",
        nowfun: Callable[[], _dt.datetime] | None = None,
        app: Any = None,
        *,
        timezone: str | _dt.tzinfo | None = None,
    ) -> None:
        super().__init__(nowfun, app, timezone=timezone)
        self._orig_minute, self._orig_hour = minute, hour
        self._orig_day_of_week, self._orig_day_of_month = day_of_week, day_of_month
        self._orig_month_of_year = month_of_year
        self.minute = parse_celery(minute, MINUTE)
        self.hour = parse_celery(hour, HOUR)
        self.day_of_week = parse_celery(day_of_week, DAY_OF_WEEK)
        self.day_of_month = parse_celery(day_of_month, DAY_OF_MONTH)
        self.month_of_year = parse_celery(month_of_year, MONTH_OF_YEAR)
        self._times = CronTimes(
            minutes=self.minute,
            hours=self.hour,
            days=self.day_of_month,
            months=self.month_of_year,
            weekdays=self.day_of_week,
            either_day=False,
            follows_wall=_is_wild(minute, self.minute, MINUTE.everything())
            or _is_wild(hour, self.hour, HOUR.everything()),
        )

    @classmethod
    def from_string(cls, crontab: str, **kwargs: Any) -> crontab:
        """Return the schedule of a line "minute hour day_of_month month_of_year day_of_week".

        :raises ParseException: it has not five fields, or one cannot be read.
        """
        words = crontab.split()
        if len(words) != 5:
            raise ParseException(f"{crontab!r} has {len(words)} fields instead of five")
        minute, hour, day_of_month, month_of_year, day_of_week = words
        return cls(
            minute=minute,
            hour=hour,
            day_of_month=day_of_month,
            month_of_year=month_of_year,
            day_of_week=day_of_week,
            **kwargs,
        )

    def next_after(self, instant: float) -> float | None:
        """Return the first matching minute after `instant`."""
        return self._times.next_after(instant, self.tz)

    @property
    def fields(self) -> dict[str, Any]:
        """The five fields as they were given."""
        return {
            "minute": self._orig_minute,
            "hour": self._orig_hour,
            "day_of_week": self._orig_day_of_week,
            "day_of_month": self._orig_day_of_month,
            "month_of_year": self._orig_month_of_year,
        }

    def _values(self) -> tuple[frozenset[int], ...]:
        return self.minute, self.hour, self.day_of_week, self.day_of_month, self.month_of_year

    def __repr__(self) -> str:
        fields = self.fields
        names = "minute hour day_of_month month_of_year day_of_week".split()
        return f"<crontab: {' '.join(_shown(fields[name]) for name in names)} (m/h/dM/MY/d)>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, crontab):
            return self._values() == other._values() and self.timezone == other.timezone
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def __reduce__(self) -> Any:
        state = {**vars(self), "_app": None}
        return self.__class__, tuple(self.fields.values()), state


class cron(Schedule):  # noqa: N801 - beside crontab
    """At the times of a cron line, by cron's own rules: 7 is Sunday, and where both day fields are
    restricted, either of them will do.

    :param expression: five fields, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    :raises ParseException: it cannot be read, or never comes.
    """

    def __init__(
        self,
        expression: str,
        nowfun: Callable[[], _dt.datetime] | None = None,
        app: Any = None,
        *,
        timezone: str | _dt.tzinfo | None = None,
    ) -> None:
        super().__init__(nowfun, app, timezone=timezone)
        self.expression = expression
        self._times = parse_posix(expression)

    def next_after(self, instant: float) -> float | None:
        """Return the first matching minute after `instant`."""
        return self._times.next_after(instant, self.tz)

    def __repr__(self) -> str:
        return f"<cron: {self.expression}>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, cron):
            return (self.expression, self.timezone) == (other.expression, other.timezone)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.expression)

    def __reduce__(self) -> Any:
        return self.__class__, (self.expression,), {**vars(self), "_app": None}


class clocked(Schedule):  # noqa: N801 - the name that it has in django-celery-beat
    """At one moment, and never again.

    :param clocked_time: the moment; a naive one is UTC.
    """

    def __init__(
        self,
        clocked_time: _dt.datetime,
        nowfun: Callable[[], _dt.datetime] | None = None,
        app: Any = None,
    ) -> None:
        super().__init__(nowfun, app)
        self.clocked_time = clocked_time

    def next_after(self, instant: float) -> float | None:
        """Return the moment, or None where it is over."""
        at = _instant(self.clocked_time)
        return at if at > instant else None

    def __repr__(self) -> str:
        return f"<clocked: {self.clocked_time}>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, clocked):
            return _instant(self.clocked_time) == _instant(other.clocked_time)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(_instant(self.clocked_time))

    def __reduce__(self) -> Any:
        return self.__class__, (self.clocked_time,), {**vars(self), "_app": None}


def maybe_schedule(found: Any, relative: bool = False, app: Any = None) -> Schedule:
    """Return a schedule for a number of seconds, a timedelta, or a schedule.

    :raises ParseException: it is none of them, or no valid one.
    """
    if found is None:
        raise ParseException("an entry needs a schedule: seconds, a timedelta, or a crontab")
    if isinstance(found, (int, float, _dt.timedelta)):
        return schedule(found, relative, app=app)
    if not callable(getattr(found, "is_due", None)):
        raise ParseException(f"{found!r:.100} is no schedule: seconds, a timedelta, or a crontab")
    if app is not None:
        found.app = app
    return found  # type: ignore[no-any-return]


def _is_wild(given: Any, found: frozenset[int], everything: frozenset[int]) -> bool:
    return found == everything or (isinstance(given, str) and given.lstrip().startswith("*"))


def _shown(field: Any) -> str:
    return field if isinstance(field, str) else repr(field)
