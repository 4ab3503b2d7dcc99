"""The stores of Django's database and cache against the contracts, on SQLite and PostgreSQL."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.testing.contract.results import ResultsContract
from celeriac.testing.contract.schedules import SchedulesContract


class TestDatabaseResults(ResultsContract):
    """`result_backend = "django-db"`."""

    @pytest.fixture
    def family(self, empty: None) -> Any:
        from celeriac.contrib.django.results import DatabaseFamily

        return DatabaseFamily("django-db", {})


class TestCacheResults(ResultsContract):
    """`result_backend = "django-cache"`."""

    @pytest.fixture
    def family(self, empty: None) -> Any:
        from celeriac.contrib.django.cache import CacheFamily

        return CacheFamily("django-cache", {})


class _Family:
    """What the contract asks of a family."""

    def __init__(self, app: Celeriac) -> None:
        self.app = app

    def schedules(self) -> Any:
        from celeriac.contrib.django.schedulers import DatabaseScheduler

        return DatabaseScheduler.store(self.app)

    def broker(self) -> Any:
        return self.app.broker

    def close(self) -> None:
        self.app.close()


class TestSchedules(SchedulesContract):
    """`beat_scheduler = "django"`."""

    @pytest.fixture
    def family(self, empty: None) -> Any:
        return _Family(Celeriac("contract", broker="memory://django-schedules"))


def test_writers_at_the_same_time(empty: None) -> None:
    from django.db import connections

    from celeriac.contrib.django.results import DatabaseResults
    from celeriac.kernel.message import Record

    def write(number: int) -> None:
        store = DatabaseResults()
        for n in range(20):
            store.store([Record(f"t{n}", "STARTED", b"%d" % number, fence=(0, number))])
        connections.close_all()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = DatabaseResults().fetch([f"t{n}" for n in range(20)])
    assert {record.fence for record in found.values()} == {(0, 4)} and len(found) == 20


def test_migrations_are_those_of_the_models(django_here: Path) -> None:
    from django.core.management import call_command

    call_command("makemigrations", "celeriac", check=True, dry_run=True, verbosity=0)


@pytest.mark.parametrize("kind", ["results.DatabaseFamily", "cache.CacheFamily"])
def test_tasks_add_to_a_chord_at_the_same_time(empty: None, kind: str) -> None:
    """Each gets slots of its own, also whoever asks a second time."""
    from django.db import connections
    from django.utils.module_loading import import_string

    from celeriac.testing.contract.results import group

    results = import_string(f"celeriac.contrib.django.{kind}")("django-cache", {}).results()
    results.open_group(group(size=1))
    got: list[tuple[str, int]] = []

    def add(number: int) -> None:
        for n in range(10):
            once = f"{number}-{n}"
            got.append((once, results.grow_group("g", 2, once=once)))
            # As a worker that runs the task again, with a growth of somebody else's in between.
            results.grow_group("g", 1)
            got.append((once, results.grow_group("g", 2, once=once)))
        connections.close_all()

    threads = [threading.Thread(target=add, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    firsts = dict(got)
    assert len(got) == 60 and all(firsts[once] == index for once, index in got)
    slots = sorted(slot for index in firsts.values() for slot in (index, index + 1))
    assert len(set(slots)) == len(slots)
    assert results.grow_group("g", 1) == 1 + 3 * 10 * 3


def test_a_cache_that_takes_no_such_value_says_so(empty: None, monkeypatch: Any) -> None:
    """Memcached drops what is too large, and says so by nothing but False."""
    from django.core.cache.backends.db import DatabaseCache

    from celeriac.contrib.django.cache import CacheResults
    from celeriac.exceptions import BrokerRejected
    from celeriac.kernel.message import Record

    add = DatabaseCache.add
    monkeypatch.setattr(
        DatabaseCache,
        "add",
        lambda self, key, value, *more: len(value) < 10_000 and add(self, key, value, *more),
    )
    store = CacheResults("default")
    store.store([Record("small", "SUCCESS", b"x")])
    store.store([Record("small", "SUCCESS", b"x")])  # it is there: nothing is wrong
    with pytest.raises(BrokerRejected, match="does not keep a result of"):
        store.store([Record("large", "SUCCESS", b"x" * 10_000)])
    assert set(store.fetch(["small", "large"])) == {"small"}
