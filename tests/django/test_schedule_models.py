"""Entries of the schedule as programs and people write them, beside a beat that moves them on."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from typing import Any

import pytest

from celeriac import Celeriac

HOUR = 3600.0


@pytest.fixture
def app(empty: None) -> Iterator[Celeriac]:
    """Give an app that models find as the current one."""
    from celeriac.client.current import push_app

    made = Celeriac("contract", broker="memory://django-models", beat_scheduler="django")
    token = push_app(made)
    yield made
    token.var.reset(token)
    made.close()


@pytest.fixture
def store(app: Celeriac) -> Any:
    """Give the store that a beat would use."""
    from celeriac.contrib.django.schedulers import DatabaseScheduler

    return DatabaseScheduler.store(app)


def _entry(name: str = "e", **values: Any) -> Any:
    from celeriac.contrib.django.models import IntervalSchedule, PeriodicTask

    if not values.keys() & {"crontab", "clocked", "solar", "interval"}:
        values["interval"], _ = IntervalSchedule.objects.get_or_create(every=1, period="hours")
    return PeriodicTask.objects.create(**{"name": name, "task": "t.x", **values})


def _tick(store: Any, now: float) -> list[str]:
    """Be a beat for one look; return whose tick was sent."""
    from celeriac.ports.schedules import Tick

    due = store.due("contract", now, limit=10, owner="beat", lease=30.0)
    ticks = [Tick(one.name, one.version, now + HOUR, one.next_at) for one in due]
    return list(store.sent("contract", ticks))


def _fresh(entry: Any) -> Any:
    return type(entry).objects.get(pk=entry.pk)


def test_an_old_copy_that_is_saved_undoes_no_tick(store: Any) -> None:
    old = _entry()
    now = old.next_at + 1
    assert _tick(store, now) == ["e"]
    old.description = "read before the tick, saved after it"
    old.save()
    found = _fresh(old)
    assert (found.total_run_count, found.next_at) == (1, now + HOUR)
    assert found.last_run_at is not None and found.description
    assert _tick(store, now + 1) == []


def test_a_moment_that_is_moved_is_followed(store: Any) -> None:
    from django.utils import timezone

    from celeriac.contrib.django.models import ClockedSchedule

    moment = ClockedSchedule.objects.create(clocked_time=timezone.now() + dt.timedelta(hours=1))
    entry = _entry(clocked=moment)
    moment.clocked_time += dt.timedelta(hours=2)
    moment.save()
    assert abs(_fresh(entry).next_at - time.time() - 3 * HOUR) < 60


def test_a_schedule_that_an_entry_cannot_run_by_is_not_saved(store: Any) -> None:
    from django.utils import timezone

    from celeriac.contrib.django.models import ClockedSchedule
    from celeriac.exceptions import ImproperlyConfigured

    later = timezone.now() + dt.timedelta(hours=1)
    moment = ClockedSchedule.objects.create(clocked_time=later)
    _entry(clocked=moment)
    moment.clocked_time = timezone.now() - dt.timedelta(hours=1)
    with pytest.raises(ImproperlyConfigured, match="never comes"):
        moment.save()
    moment.refresh_from_db()
    assert moment.clocked_time == later


def test_an_interval_shared_with_code_is_followed(app: Celeriac, store: Any) -> None:
    from celeriac.beat.entries import encode, read_entry
    from celeriac.contrib.django.models import PeriodicTask
    from celeriac.ports.schedules import Entry

    item = read_entry(app, "coded", {"task": "t.x", "schedule": 3600})
    spec = encode(item, app, from_code=True)
    assert store.put("contract", [Entry("coded", spec, time.time() + 9, from_code=True)]) == []
    coded = PeriodicTask.objects.get(name="coded")
    coded.save()
    assert bytes(_fresh(coded).spec) == spec  # nothing was said, nothing is changed
    coded.interval.every = 7200
    coded.interval.save()
    assert _fresh(coded).schedule.run_every == dt.timedelta(hours=2)
    assert store.entries("contract")[0].spec != spec


def test_what_is_written_past_save_is_brought_in(store: Any, caplog: Any) -> None:
    from celeriac.contrib.django.models import IntervalSchedule, PeriodicTask

    every, _ = IntervalSchedule.objects.get_or_create(every=1, period="hours")
    made = [
        PeriodicTask(name="bulk", task="t.x", interval=every),
        PeriodicTask(name="wrong", task="t.x", interval=every, args="{}"),
    ]
    PeriodicTask.objects.bulk_create(made)
    entry = _entry(enabled=False)
    PeriodicTask.objects.filter(pk=entry.pk).update(enabled=True)
    now = time.time()
    assert _tick(store, now) == []
    assert _tick(store, now + HOUR + 60) == ["bulk", "e"]
    assert (
        not PeriodicTask.objects.get(name="wrong").enabled and "'wrong' is disabled" in caplog.text
    )


def test_words_of_django_celery_beat(store: Any) -> None:
    from zoneinfo import ZoneInfo

    from celeriac.contrib.django.models import CrontabSchedule

    line, _ = CrontabSchedule.objects.get_or_create(
        minute="30", hour="*", day_of_week="*", timezone=ZoneInfo("Canada/Pacific")
    )
    again, made = CrontabSchedule.objects.get_or_create(
        minute="30", hour="*", day_of_week="*", timezone=ZoneInfo("Canada/Pacific")
    )
    assert again.pk == line.pk and not made
    entry = _entry(crontab=line, queue=None, exchange=None, routing_key=None, priority=None)
    found = _fresh(entry)
    assert found.queue == "" and found.schedule == line.schedule
    assert str(found) == "e: 30 * * * * Canada/Pacific"


def test_the_same_name_twice(store: Any) -> None:
    from django.core.exceptions import ValidationError

    from celeriac.contrib.django.models import PeriodicTask

    entry = _entry()
    with pytest.raises(ValidationError, match="another entry"):
        PeriodicTask(name="e", task="t.x", interval=entry.interval).full_clean()
    entry.full_clean()


@pytest.mark.parametrize("use_tz", [True, False])
def test_moments_with_and_without_use_tz(
    app: Celeriac, store: Any, settings: Any, use_tz: bool
) -> None:
    from celeriac.contrib.django.models import PeriodicTask

    settings.USE_TZ = use_tz
    at = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(hours=1)
    from celeriac.kernel.schedules import clocked

    app.schedules.add("moment", task="t.x", schedule=clocked(at))
    app.schedules.add("expires", task="t.x", schedule=60, options={"expires": at})
    entry = PeriodicTask.objects.get(name="moment")
    assert entry.next_at == at.timestamp()
    entry.description = "saved again"
    entry.full_clean()
    entry.save()
    assert _fresh(entry).next_at == at.timestamp()
    shown = _fresh(entry).next_run_at
    assert (shown.tzinfo is not None) is use_tz
    dying = PeriodicTask.objects.get(name="expires")
    assert dying.parts()["options"]["expires"] == at
    assert entry.clocked.schedule.next_after(0) == at.timestamp()
