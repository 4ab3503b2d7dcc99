"""`enable_utc` and `result_accept_content` as Celery means them."""

from __future__ import annotations

import datetime as dt
import pickle
import time
from collections.abc import Iterator

import pytest

from celeriac import Celeriac
from celeriac.kernel.clock import LOCAL
from celeriac.kernel.errors import ContentDisallowed
from celeriac.kernel.message import Record
from celeriac.kernel.schedules import crontab
from celeriac.result import GroupResult


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the machine stand in Berlin."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def app() -> Iterator[Celeriac]:
    url = "memory://time-and-results"
    with Celeriac("t", broker=url, backend=url, set_as_current=False) as app:
        yield app


@pytest.mark.usefixtures("in_berlin")
def test_naive_dates_are_the_machines_without_enable_utc(app: Celeriac) -> None:
    summer, winter = dt.datetime(2030, 7, 1, 12), dt.datetime(2030, 1, 1, 12)

    def hours_of(when: dt.datetime) -> int:
        app.send_task("t", eta=when)
        envelope = app.broker.peek("celery", limit=1)[0]
        app.broker.purge("celery")
        return dt.datetime.fromtimestamp(envelope.not_before, dt.UTC).hour

    assert (app.timezone, hours_of(summer), hours_of(winter)) == (dt.UTC, 12, 12)
    app.conf.enable_utc = False
    assert (str(app.timezone), hours_of(summer), hours_of(winter)) == ("local", 10, 11)
    assert app.now().utcoffset() in (dt.timedelta(hours=1), dt.timedelta(hours=2))
    app.conf.timezone = "Asia/Tokyo"
    assert hours_of(summer) == 3
    app.conf.timezone = "local"
    assert hours_of(summer) == 10


@pytest.mark.usefixtures("in_berlin")
def test_schedules_are_by_the_machines_time_without_enable_utc(app: Celeriac) -> None:
    app.conf.enable_utc = False
    at_four = crontab(0, 4, app=app)
    before = dt.datetime(2030, 7, 1, 0, tzinfo=dt.UTC)
    assert (
        at_four.next_after(before.timestamp())
        == dt.datetime(2030, 7, 1, 2, tzinfo=dt.UTC).timestamp()
    )


@pytest.mark.usefixtures("in_berlin")
def test_the_hour_that_comes_twice() -> None:
    first = dt.datetime(2030, 10, 27, 0, 30, tzinfo=dt.UTC)
    for when in (first, first + dt.timedelta(hours=1)):
        there = when.astimezone(LOCAL)
        assert there.hour == 2
        assert there.timestamp() == when.timestamp()
    assert first.astimezone(LOCAL).dst() == dt.timedelta(hours=1)
    assert pickle.loads(pickle.dumps(LOCAL)) == LOCAL


def test_results_are_read_only_with_codecs_that_are_accepted(app: Celeriac) -> None:
    app.conf.result_serializer = "pickle"
    meta = {"status": "SUCCESS", "result": {1, 2}, "traceback": None, "children": []}
    app.results.store([Record("r", "SUCCESS", pickle.dumps(meta))])
    group = GroupResult("g", [app.AsyncResult("r")], app=app)
    group.save()
    for refused in (None, ["json"]):
        app.conf.result_accept_content = refused
        with pytest.raises(ContentDisallowed, match="result_accept_content"):
            app.AsyncResult("r").get(timeout=5)
        with pytest.raises(ContentDisallowed):
            group.get(timeout=5)
        with pytest.raises(ContentDisallowed):
            GroupResult.restore("g", app=app)
    app.conf.result_accept_content = ["json", "pickle"]
    assert app.AsyncResult("r").get(timeout=5) == {1, 2}
    assert group.get(timeout=5) == [{1, 2}]
    restored = GroupResult.restore("g", app=app)
    assert restored is not None and restored.id == "g"
    # Where it is not set, what is accepted of messages.
    app.conf.result_accept_content = None
    app.conf.accept_content = ["pickle"]
    assert app.AsyncResult("r").get(timeout=5) == {1, 2}
