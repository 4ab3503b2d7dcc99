"""Results and the schedule in the ORM: real workers, a real beat, the admin by its pages."""

from __future__ import annotations

from tests.django.conftest import Site
from tests.support.project import eventually

ADMIN = """
from django.contrib.auth.models import User
from django.test import Client
user = User.objects.filter(username="admin").first() or User.objects.create_superuser("admin")
admin = Client()
admin.force_login(user)
"""


def test_results_in_the_orm(site: Site) -> None:
    site.settings(CELERY_RESULT_BACKEND="django-db")
    worker = site.worker("-c", "2")
    found = site.shell(
        ADMIN
        + """
from celeriac import chord, group
from celeriac.contrib.django.models import TaskResult
from orders.tasks import add, fail
from letters.jobs import post

three = add.delay(1, y=2)
assert three.get(timeout=20) == 3
wrong = fail.delay("<b>wrong</b>")
said = str(wrong.get(timeout=20, propagate=False))
many = group(add.s(n, n) for n in range(20)).apply_async().get(timeout=20)
total = chord([add.s(1, 1), add.s(2, 2)], post.s()).apply_async().get(timeout=20)
row = TaskResult.objects.get(task_id=three.id)
failed = TaskResult.objects.get(task_id=wrong.id)
listed = admin.get("/admin/celeriac/taskresult/")
page = admin.get(f"/admin/celeriac/taskresult/{failed.pk}/change/").content.decode()
only = admin.get("/admin/celeriac/taskresult/?status=FAILURE").content.decode()
search = admin.get("/admin/celeriac/taskresult/?q=wrong").content.decode()
adding = admin.get("/admin/celeriac/taskresult/add/").status_code
print(json.dumps({
    "said": said, "many": many, "total": total,
    "row": [row.status, row.task_name, row.task_args, row.task_kwargs, row.result, row.worker != ""],
    "listed": [listed.status_code, three.id in listed.content.decode()],
    "page": ["Traceback" in page, "orders.tasks.fail" in page, "<b>wrong" not in page,
             "&lt;b&gt;wrong" in page],
    "only": [wrong.id in only, three.id in only], "search": [wrong.id in search, three.id in search],
    "adding": adding,
}))
"""
    )
    assert found["said"] == "<b>wrong</b>"
    assert found["many"] == [2 * n for n in range(20)] and found["total"] == "posted [2, 4]"
    assert found["row"] == ["SUCCESS", "orders.tasks.add", "[1]", '{"y": 2}', "3", True]
    assert found["listed"] == [200, True]
    assert found["page"] == [True] * 4
    assert found["only"] == found["search"] == [True, False]
    assert found["adding"] == 403
    assert worker.stop() == 0


def test_results_in_the_cache(site: Site) -> None:
    site.settings(CELERY_RESULT_BACKEND="django-cache")
    site.worker("-c", "1")
    found = site.shell("""
        from orders.tasks import add
        print(json.dumps(add.delay(1, 2).get(timeout=20)))
    """)
    assert found == 3


def test_missing_tables_say_what_to_run(site: Site) -> None:
    site.settings(CELERY_RESULT_BACKEND="django-db")
    site.manage("migrate", "celeriac", "zero", "-v0")
    said = site.run("-m", "celeriac", "-A", "shop", "worker", ok=False)
    assert "manage.py migrate" in said and "django_celery" not in said


def test_a_cache_of_one_process_is_refused(site: Site) -> None:
    site.settings(
        CELERY_RESULT_BACKEND="django-cache",
        CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
    )
    said = site.run("-m", "celeriac", "-A", "shop", "worker", ok=False)
    assert "LocMemCache" in said and "other processes" in said


def test_the_schedule_in_the_orm(site: Site) -> None:
    """A running beat follows what is edited in the admin within a second or so."""
    site.settings(
        CELERY_RESULT_BACKEND="django-db",
        CELERY_BEAT_SCHEDULER="django_celery_beat.schedulers:DatabaseScheduler",
        CELERY_BEAT_SCHEDULE={
            "from code": {"task": "orders.tasks.add", "schedule": 3600, "args": [1, 2]}
        },
    )
    site.worker("-c", "1")
    beat = site.start("manage.py", "celeriac", "beat", "-l", "INFO")
    eventually(lambda: "beat: Starting" in beat.output(), saying="a beat")
    found = site.shell(
        ADMIN
        + """
import time
from celeriac.testing.eventually import eventually
from celeriac.contrib.django.models import IntervalSchedule, PeriodicTask, TaskResult
from letters.jobs import post
from shop import celery_app as app

url = "/admin/celeriac/periodictask/"
first = eventually(lambda: PeriodicTask.objects.filter(name="from code").first())
every = IntervalSchedule.objects.create(every=1, period="seconds")
form = {"name": "letters", "task": "letters.jobs.post", "enabled": "on", "interval": every.pk,
        "args": '["hello"]', "kwargs": "{}", "headers": "{}", "misfire": "once"}
said = admin.post(url + "add/", {**form, "args": "[1,"}).content.decode()
assert "args is no JSON" in said, said
two = admin.post(url + "add/", {**form, "interval": ""}).content.decode()
assert "Choose one of" in two
began = time.monotonic()
answer = admin.post(url + "add/", form)
assert answer.status_code == 302, answer.content.decode()
done = lambda n: TaskResult.objects.filter(task_name="letters.jobs.post", status="SUCCESS").count() >= n
eventually(lambda: done(1))
took = time.monotonic() - began
eventually(lambda: done(2))
entry = PeriodicTask.objects.get(name="letters")
assert entry.last_run_at and entry.next_run_at and entry.total_run_count >= 2
shown = admin.get(url).content.decode()
assert "letters.jobs.post" in shown and "every 1 seconds" in shown
assert admin.get(f"{url}{entry.pk}/change/").status_code == 200

# Disabled: it stops; and beat's own changes do not bring it back.
admin.post(url, {"action": "disable", "_selected_action": [entry.pk]})
entry.refresh_from_db()
assert not entry.enabled and entry.next_at is None
runs = entry.total_run_count

# Run now, beside the ticks.
before = TaskResult.objects.count()
admin.post(url, {"action": "run_now", "_selected_action": [first.pk]})
eventually(lambda: TaskResult.objects.filter(task_name="orders.tasks.add").exists())

# One-off.
once = PeriodicTask.objects.create(
    name="once", task="letters.jobs.post", interval=every, args='["once"]', one_off=True)
eventually(lambda: PeriodicTask.objects.get(pk=once.pk).total_run_count == 1)
once.refresh_from_db()
assert not once.enabled and once.next_run_at is None

# At a moment.
from datetime import timedelta
from django.utils import timezone
from celeriac.contrib.django.models import ClockedSchedule, CrontabSchedule, SolarSchedule
at = ClockedSchedule.objects.create(clocked_time=timezone.now() + timedelta(seconds=1))
moment = PeriodicTask.objects.create(name="moment", task="letters.jobs.post", clocked=at, args='["at"]')
eventually(lambda: PeriodicTask.objects.get(pk=moment.pk).total_run_count == 1)
moment.refresh_from_db()
assert not moment.enabled
moment.description = "over"
moment.save()

# Crontab and sun, by the same table through app.schedules.
line = CrontabSchedule.objects.create(minute="30", hour="7", day_of_week="1", timezone="Asia/Tokyo")
PeriodicTask.objects.create(name="weekly", task="letters.jobs.post", crontab=line)
sun = SolarSchedule.objects.create(event="sunset", latitude="52.5", longitude="13.4")
PeriodicTask.objects.create(name="evening", task="letters.jobs.post", solar=sun)
listed = {e.name: e for e in app.schedules.list()}
assert set(listed) == {"from code", "letters", "once", "moment", "weekly", "evening"}, listed
tokyo = listed["weekly"].next_at.astimezone(__import__("zoneinfo").ZoneInfo("Asia/Tokyo"))
assert (tokyo.hour, tokyo.minute, tokyo.isoweekday()) == (7, 30, 1)
app.schedules.add("by program", task="letters.jobs.post", schedule=3600)
assert PeriodicTask.objects.get(name="by program").interval.every == 3600
line.hour = "8"
line.save()
assert {e.name: e for e in app.schedules.list()}["weekly"].schedule.startswith("30 8")

# Disabled stays disabled, and runs no more.
entry.refresh_from_db()
assert entry.total_run_count == runs
print(json.dumps([took, PeriodicTask.objects.get(name="from code").from_code]))
"""
    )
    took, from_code = found
    assert took < 4.0 and from_code
    assert beat.stop() == 0


def test_an_edit_of_an_entry_from_code_stays(site: Site) -> None:
    site.settings(
        CELERY_BEAT_SCHEDULER="django",
        CELERY_BEAT_SCHEDULE={
            "from code": {"task": "orders.tasks.add", "schedule": 3600, "args": [1, 2]}
        },
    )
    for args in ("[1, 2]", "[3, 4]"):
        beat = site.start("-m", "celeriac", "-A", "shop", "beat", "-l", "INFO")
        eventually(lambda: "beat: Starting" in beat.output(), saying="a beat")
        found = site.shell("""
            from celeriac.contrib.django.models import PeriodicTask
            entry = PeriodicTask.objects.get()
            print(json.dumps([entry.args.replace(",", ", ").replace("  ", " "), str(entry)]))
            entry.args = "[3, 4]"
            entry.save()
        """)
        assert found == [args, "from code: every 3600 seconds"]
        assert beat.stop() == 0
