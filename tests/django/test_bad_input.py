"""What people type into the admin: always a page with what is wrong, never an error of the server."""

from __future__ import annotations

from tests.django.conftest import Site

SOURCE = """
import re
from datetime import timedelta
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from celeriac.contrib.django.models import ClockedSchedule, IntervalSchedule, PeriodicTask

admin = Client()
admin.force_login(User.objects.create_superuser("admin"))
url = "/admin/celeriac/"

def post(path, data):
    answer = admin.post(url + path, data)
    text = answer.content.decode()
    found = re.findall(r'<ul class="(?:errorlist|messagelist)[^>]*>(.*?)</ul>', text, re.S)
    said = re.sub("<[^>]+>", "", " ".join(found)).replace("&#x27;", "'").strip()
    return "" if answer.status_code == 302 else said or text

said = {}
line = dict.fromkeys(("minute", "hour", "day_of_month", "month_of_year", "day_of_week"), "*")
kinds = {
    "intervalschedule": [
        {"every": "0", "period": "seconds"}, {"every": "5", "period": "fortnights"},
        {"every": "", "period": "days"}, {"every": "5", "period": ""},
        {"every": "2147483647", "period": "days"}],
    "crontabschedule": [
        {**line, "minute": "*/0"}, {**line, "timezone": "Mars/Phobos"}, {**line, "hour": ""},
        {**line, "day_of_month": "31", "month_of_year": "2"}],
    "solarschedule": [
        {"event": "sunset", "latitude": "999", "longitude": "0"},
        {"event": "", "latitude": "", "longitude": "0"}],
    "clockedschedule": [
        {"clocked_time_0": "", "clocked_time_1": ""},
        {"clocked_time_0": "0001-01-01", "clocked_time_1": "00:00:00"},
        {"clocked_time_0": "2027-03-28", "clocked_time_1": "02:30:00"}],
}
for kind, forms in kinds.items():
    for number, form in enumerate(forms):
        said[f"{kind} {number}"] = post(f"{kind}/add/", form)

assert post("intervalschedule/add/", {"every": "10", "period": "seconds"}) == ""
every = IntervalSchedule.objects.get()
form = {"name": "e", "task": "orders.tasks.add", "enabled": "on", "interval": every.pk,
        "args": "[1]", "kwargs": "{}", "headers": "{}", "misfire": "once"}
assert post("periodictask/add/", form) == ""
entry = PeriodicTask.objects.get()
soon = ClockedSchedule.objects.create(clocked_time=timezone.now() + timedelta(days=1))
past = ClockedSchedule.objects.create(clocked_time=timezone.now() - timedelta(days=1))
for name, change in {
    "deep": {"args": "[" * 5000 + "]" * 5000},
    "tag": {"kwargs": '{"__type__": "datetime", "__value__": "x"}'},
    "array": {"kwargs": "[]"}, "no task": {"task": ""}, "two": {"clocked": soon.pk},
    "early": {"start_time_0": "0001-01-01", "start_time_1": "00:00:00"},
    "past": {"interval": "", "clocked": past.pk},
}.items():
    said[name] = post("periodictask/add/", {**form, "name": name, **change})
assert post("periodictask/add/", {**form, "name": "m", "interval": "", "clocked": soon.pk}) == ""
moved = {"clocked_time_0": "2020-01-01", "clocked_time_1": "00:00:00"}
said["same name"] = post("periodictask/add/", form)
said["moved"] = post(f"clockedschedule/{soon.pk}/change/", moved)
many = {"every": "2147483647", "period": "days"}
said["too long"] = post(f"intervalschedule/{every.pk}/change/", many)

def act(name):
    data = {"action": name, "_selected_action": [entry.pk]}
    return admin.post(url + "periodictask/", data, follow=True).content.decode()

said["run now"] = act("run_now")
over = PeriodicTask.objects.get(name="m")
ClockedSchedule.objects.filter(pk=soon.pk).update(clocked_time=past.clocked_time)
PeriodicTask.objects.filter(pk=over.pk).update(enabled=False, next_at=None)
entry = over
said["enabled too late"] = act("enable")
assert not PeriodicTask.objects.get(pk=over.pk).enabled
print(json.dumps(said))
"""


def test_the_admin_says_what_is_wrong(site: Site) -> None:
    site.settings(CELERY_BEAT_SCHEDULER="django")
    said = site.shell(SOURCE)
    assert all(said.values()), {name for name, text in said.items() if not text}
    for name, words in {
        "intervalschedule 0": "longer than 0 s",
        "intervalschedule 1": "Select a valid choice",
        "intervalschedule 4": "an interval cannot be",
        "crontabschedule 1": "no time zone is called 'Mars/Phobos'",
        "solarschedule 0": "a latitude is from -90 to 90",
        "clockedschedule 0": "This field is required",
        "clockedschedule 1": "out of range",
        "clockedschedule 2": "2027-03-28 02:30:00",
        "same name": "another entry of this name",
        "deep": "args is no JSON",
        "tag": "would be a tag",
        "array": "kwargs must be a JSON object",
        "two": "Choose one of",
        "past": "it never comes",
        "moved": "it never comes",
        "too long": "an interval cannot be",
        "run now": "missing 1 required positional argument",
        "enabled too late": "never comes",
    }.items():
        assert words in said[name], (name, said[name][:2000])
