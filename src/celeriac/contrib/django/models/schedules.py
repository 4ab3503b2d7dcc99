"""The schedule: when what runs, in the forms that people edit.

An entry has two halves: the fields that people edit, and `spec` with the times that beat reads.
`save` makes the second from the first and tells running beats.

Owns: IntervalSchedule, CrontabSchedule, SolarSchedule, ClockedSchedule, PeriodicTask.
May import: celeriac.beat, celeriac.kernel, django.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, router, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from celeriac.beat.entries import Item, decode, edited, encode, read_entry, shown_schedule
from celeriac.beat.schedules import Schedules
from celeriac.beat.service import TOPIC, scope_of
from celeriac.beat.ticker import first_tick
from celeriac.client.current import get_current_app
from celeriac.contrib.django.orm import aware, stored
from celeriac.kernel.errors import CeleryError
from celeriac.kernel.schedules import Schedule, clocked, crontab, schedule
from celeriac.kernel.solar import ELEVATIONS, solar

PERIODS = {
    "days": 86400.0,
    "hours": 3600.0,
    "minutes": 60.0,
    "seconds": 1.0,
    "microseconds": 1e-6,
}
EVENTS = sorted(ELEVATIONS)


_WRONG = (CeleryError, ValueError, TypeError, OverflowError, RecursionError)
"""What fields that nobody could mean are read with."""


class _Kind(models.Model):
    """A schedule that entries refer to; when it changes, they do."""

    class Meta:
        abstract = True

    @property
    def schedule(self) -> Schedule:
        """The schedule itself."""
        raise NotImplementedError

    def clean(self) -> None:
        """Refuse what cannot be read, or never comes."""
        if any(
            f.value_from_object(self) in (None, "") and not f.blank for f in self._meta.fields[1:]
        ):
            return  # a field that has its own error
        try:
            self.schedule.next_after(time.time())
        except KeyError:
            return  # likewise
        except _WRONG as error:
            raise ValidationError(str(error)) from error
        for entry in self._entries():
            entry.clean()

    def _entries(self) -> Any:
        return [] if self.pk is None else self.periodictask_set.filter(enabled=True)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, and have the entries that refer to it follow.

        :raises ImproperlyConfigured: an entry could not run by it; nothing is saved.
        """
        with transaction.atomic(
            kwargs.get("using") or router.db_for_write(type(self), instance=self)
        ):
            super().save(*args, **kwargs)
            for entry in self.periodictask_set.all():
                entry.save()


class IntervalSchedule(_Kind):
    """Every so often."""

    DAYS, HOURS, MINUTES, SECONDS, MICROSECONDS = PERIODS
    PERIOD_CHOICES = [(name, name) for name in PERIODS]

    every = models.PositiveIntegerField(_("number of periods"))
    period = models.CharField(_("period"), max_length=24, choices=PERIOD_CHOICES)

    class Meta:
        verbose_name = _("interval")
        ordering = ("period", "every")

    @property
    def schedule(self) -> Schedule:
        """The schedule itself."""
        return schedule(self.every * PERIODS[self.period])

    def __str__(self) -> str:
        return f"every {self.every} {self.period}"


class CrontabSchedule(_Kind):
    """At the minutes that five fields match."""

    minute = models.CharField(_("minute"), max_length=240, default="*")
    hour = models.CharField(_("hour"), max_length=96, default="*")
    day_of_month = models.CharField(_("day of the month"), max_length=124, default="*")
    month_of_year = models.CharField(_("month"), max_length=64, default="*")
    day_of_week = models.CharField(_("day of the week"), max_length=64, default="*")
    timezone = models.CharField(
        _("time zone"), max_length=64, default="", blank=True, help_text=_("the app's where empty")
    )

    class Meta:
        verbose_name = _("crontab")
        ordering = ("month_of_year", "day_of_month", "day_of_week", "hour", "minute")

    @property
    def schedule(self) -> Schedule:
        """The schedule itself."""
        return crontab(
            minute=self.minute,
            hour=self.hour,
            day_of_month=self.day_of_month,
            month_of_year=self.month_of_year,
            day_of_week=self.day_of_week,
            timezone=self.timezone or None,
        )

    def __str__(self) -> str:
        fields = (self.minute, self.hour, self.day_of_month, self.month_of_year, self.day_of_week)
        return " ".join(fields) + (f" {self.timezone}" if self.timezone else "")


class SolarSchedule(_Kind):
    """When the sun stands somewhere."""

    event = models.CharField(_("event"), max_length=24, choices=[(e, e) for e in EVENTS])
    latitude = models.DecimalField(_("latitude"), max_digits=9, decimal_places=6)
    longitude = models.DecimalField(_("longitude"), max_digits=9, decimal_places=6)

    class Meta:
        verbose_name = _("solar event")
        ordering = ("event", "latitude", "longitude")

    @property
    def schedule(self) -> Schedule:
        """The schedule itself."""
        return solar(self.event, float(self.latitude), float(self.longitude))

    def __str__(self) -> str:
        return f"{self.event} at {self.latitude}, {self.longitude}"


class ClockedSchedule(_Kind):
    """At one moment."""

    clocked_time = models.DateTimeField(_("moment"))

    class Meta:
        verbose_name = _("moment")
        ordering = ("clocked_time",)

    @property
    def schedule(self) -> Schedule:
        """The schedule itself."""
        return clocked(aware(self.clocked_time).astimezone(dt.UTC))

    def __str__(self) -> str:
        return f"once at {self.clocked_time}"


_KINDS = ("interval", "crontab", "solar", "clocked")
_DEFINITION = (
    *("name", "task", "args", "kwargs", "queue", "exchange", "routing_key", "headers"),
    *("priority", "expires", "expire_seconds", "misfire", "start_time"),
)
"""What an entry is; the rest is how it goes."""
_MADE = frozenset("spec scope enabled next_at version claims owner until".split())
"""What `save` makes."""


def _json_field(label: Any, default: str) -> models.TextField:
    return models.TextField(label, default=default, blank=True, help_text=_("JSON"))


class PeriodicTask(models.Model):
    """An entry of the schedule."""

    name = models.CharField(_("name"), max_length=200)
    task = models.CharField(_("task"), max_length=200)
    interval = models.ForeignKey(IntervalSchedule, models.CASCADE, null=True, blank=True)
    crontab = models.ForeignKey(CrontabSchedule, models.CASCADE, null=True, blank=True)
    solar = models.ForeignKey(SolarSchedule, models.CASCADE, null=True, blank=True)
    clocked = models.ForeignKey(ClockedSchedule, models.CASCADE, null=True, blank=True)
    args = _json_field(_("positional arguments"), "[]")
    kwargs = _json_field(_("named arguments"), "{}")
    queue = models.CharField(_("queue"), max_length=200, default="", blank=True)
    exchange = models.CharField(_("exchange"), max_length=200, default="", blank=True)
    routing_key = models.CharField(_("routing key"), max_length=200, default="", blank=True)
    headers = _json_field(_("headers"), "{}")
    priority = models.PositiveSmallIntegerField(_("priority"), null=True, blank=True)
    expires = models.DateTimeField(_("messages expire at"), null=True, blank=True)
    expire_seconds = models.PositiveIntegerField(_("... or after seconds"), null=True, blank=True)
    misfire = models.CharField(
        _("missed runs"),
        max_length=8,
        default="once",
        choices=[("once", _("run once")), ("skip", _("are skipped")), ("all", _("run all"))],
    )
    one_off = models.BooleanField(_("one-off"), default=False, help_text=_("run once, then stop"))
    start_time = models.DateTimeField(_("not before"), null=True, blank=True)
    enabled = models.BooleanField(_("enabled"), default=True)
    description = models.TextField(_("description"), default="", blank=True)
    total_run_count = models.PositiveIntegerField(_("runs"), default=0, editable=False)
    date_changed = models.DateTimeField(_("changed"), auto_now=True)

    scope = models.CharField(max_length=200, default="", editable=False)
    spec = models.BinaryField(default=b"", editable=False)
    next_at = models.FloatField(null=True, editable=False, db_index=True)
    last_at = models.FloatField(default=0.0, editable=False)
    from_code = models.BooleanField(_("from the program"), default=False, editable=False)
    version = models.BigIntegerField(default=0, editable=False)
    claims = models.IntegerField(default=0, editable=False)
    owner = models.CharField(max_length=200, default="", editable=False)
    until = models.FloatField(default=0.0, editable=False)

    class Meta:
        verbose_name = _("periodic task")
        verbose_name_plural = _("periodic tasks")
        ordering = ("name",)
        constraints = [
            models.UniqueConstraint(fields=["scope", "name"], name="celeriac_one_entry_a_name")
        ]

    def __str__(self) -> str:
        return f"{self.name}: {self.schedule_text}"

    # -- looking --------------------------------------------------------------------------------

    @property
    def schedule(self) -> Schedule:
        """The schedule itself.

        :raises ImproperlyConfigured: only the program can read it.
        """
        kind = self._kind()
        if kind is not None:
            found: Schedule = kind.schedule
            return found
        return decode(self.name, bytes(self.spec), get_current_app()).schedule

    @property
    def schedule_text(self) -> str:
        """The schedule for people."""
        kind = self._kind()
        if kind is not None:
            return str(kind)
        try:
            return shown_schedule(bytes(self.spec))
        except (CeleryError, ValueError, KeyError):
            return ""

    @property
    def last_run_at(self) -> dt.datetime | None:
        """When it was last sent."""
        return moment_of(self.last_at) if self.total_run_count else None

    @property
    def next_run_at(self) -> dt.datetime | None:
        """When it is sent next."""
        return None if self.next_at is None or not self.enabled else moment_of(self.next_at)

    def _kind(self) -> Any:
        return next((found for name in _KINDS if (found := getattr(self, name))), None)

    # -- what people edit, as beat reads it -------------------------------------------------------

    def parts(self) -> dict[str, Any]:
        """Return what the fields say, as in `beat_schedule`.

        :raises ValueError: a field is no JSON.
        """
        named = {
            "queue": self.queue,
            "exchange": self.exchange,
            "routing_key": self.routing_key,
            "priority": self.priority,
            "headers": _read(self.headers, dict, "headers"),
            "expires": aware(self.expires) if self.expires else self.expire_seconds,
        }
        return {
            "task": self.task,
            "schedule": self.schedule,
            "args": _read(self.args, list, "args"),
            "kwargs": _read(self.kwargs, dict, "kwargs"),
            "options": {key: value for key, value in named.items() if value not in ("", None, {})},
            "misfire": self.misfire,
        }

    def clean(self) -> None:
        """Refuse an entry that beat could not run."""
        chosen = [name for name in _KINDS if getattr(self, name)]
        if len(chosen) > 1 or (not chosen and not self.spec):
            raise ValidationError(_("Choose one of interval, crontab, solar event and moment."))
        app, former = get_current_app(), self._former()
        others = PeriodicTask.objects.using(self._using()).filter(
            scope=self.scope or scope_of(app), name=self.name
        )
        if others.exclude(pk=self.pk).exists():
            raise ValidationError({"name": _("There is another entry of this name.")})
        try:
            for moment in (self.expires, self.start_time):
                if moment is not None:
                    aware(moment).astimezone(dt.UTC)
            self._made(app, former)
        except _WRONG as error:
            raise ValidationError(str(error)) from error

    def _using(self) -> str:
        return str(self._state.db or router.db_for_write(PeriodicTask, instance=self))

    def _former(self, *, lock: bool = False) -> PeriodicTask | None:
        if self.pk is None:
            return None
        rows = PeriodicTask.objects.using(self._using()).filter(pk=self.pk)
        found: PeriodicTask | None = (rows.select_for_update() if lock else rows).first()
        return found

    def _definition(self) -> tuple[Any, ...]:
        return (
            *(getattr(self, name) for name in _DEFINITION),
            *(getattr(self, f"{name}_id") for name in _KINDS),
        )

    def _made(self, app: Any, former: PeriodicTask | None) -> bytes:
        """Return what beat is to read.

        :raises ImproperlyConfigured: an entry that beat could not run.
        """
        spec = b"" if former is None else bytes(former.spec)
        same = former is not None and self._definition() == former._definition()
        if same and spec and not self._moved(app, spec):
            return spec
        made = encode(read_entry(app, self.name, self.parts()), app)
        return edited(made, spec) if spec else made

    def _moved(self, app: Any, spec: bytes) -> bool:
        """Return whether the schedule that is referred to says something else by now."""
        kind = self._kind()
        if kind is None:
            return False
        return shown_schedule(encode(Item(self.name, self.task, kind.schedule), app)) != (
            shown_schedule(spec)
        )

    def describe(self, former: PeriodicTask | None = None) -> None:
        """Make what beat reads from what people edit.

        :param former: as it is stored; what beat has written since this one was read stays.
        :raises ImproperlyConfigured: an entry that beat could not run.
        """
        app = get_current_app()
        for name in ("queue", "exchange", "routing_key", "description"):
            if getattr(self, name) is None:  # as django-celery-beat writes it
                setattr(self, name, "")
        self.scope = self.scope or scope_of(app)
        spec = self._made(app, former)
        same = former is not None and self._definition() == former._definition()
        if former is not None:
            self.last_at, self.next_at = former.last_at, former.next_at
            self.total_run_count = former.total_run_count
            self.version = max(self.version, former.version)
        self.version = max(self.version + 1, new_version())
        goes_on = former is not None and former.enabled and same and bytes(former.spec) == spec
        self.spec = spec
        if not self.enabled:
            self.next_at = None
        elif not goes_on or self.next_at is None:
            self.next_at = self._first(app)
            self.enabled = self.next_at is not None

    def _first(self, app: Any) -> float | None:
        now, start = time.time(), self.start_time
        begins = aware(start).timestamp() if start is not None else 0.0
        try:
            item = decode(self.name, bytes(self.spec), app)
        except CeleryError:
            return now  # of the program, which alone can read it
        if begins > now:
            return begins if self.interval else first_tick(item, begins - 0.001)
        return first_tick(item, now)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, and tell running beats when it is committed.

        :raises ImproperlyConfigured: an entry that beat could not run.
        """
        using = kwargs.get("using") or self._using()
        with transaction.atomic(using):
            self.describe(self._former(lock=True))
            self.claims, self.owner, self.until = 0, "", 0.0
            if kwargs.get("update_fields") is not None:
                kwargs["update_fields"] = {*kwargs["update_fields"], *_MADE}
            super().save(*args, **kwargs)
            self._tell()

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        """Delete, and tell running beats when it is committed."""
        found = super().delete(*args, **kwargs)
        self._tell()
        return found

    def _tell(self) -> None:
        app, scope = get_current_app(), self.scope

        def tell() -> None:
            try:
                app.bus.send(TOPIC, [scope.encode()])
            except CeleryError:
                pass  # a beat looks by itself within a second

        transaction.on_commit(tell, using=self._state.db)

    def run(self) -> Any:
        """Send its task now, beside its ticks; return the result to come."""
        return Schedules(get_current_app()).run(self.name)


def new_version() -> int:
    """Return a number that grows: an entry that was removed and made again is another one."""
    return time.time_ns() // 1000


def moment_of(instant: float) -> dt.datetime:
    """Return unix seconds as a field would."""
    found = dt.datetime.fromtimestamp(instant, timezone.get_current_timezone())
    return found if settings.USE_TZ else stored(found)


def _read(text: str, kind: type, name: str) -> Any:
    try:
        found = json.loads(text or ("[]" if kind is list else "{}"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is no JSON: {error}") from error
    if not isinstance(found, kind):
        raise ValueError(f"{name} must be a JSON {'array' if kind is list else 'object'}")
    return found
