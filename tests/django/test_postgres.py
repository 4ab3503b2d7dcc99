"""Workers, beats and tests on PostgreSQL: connections, pools, a server that goes away."""

from __future__ import annotations

from typing import Any

import pytest
from tests.django.conftest import Site
from tests.support.postgres import PostgreSQL
from tests.support.project import eventually


def _on(site: Site, postgres: PostgreSQL, pool: int = 0, **values: Any) -> str:
    """Have a site keep its data and its results on the server; return its database's name."""
    here = postgres.database()
    if pool:
        here["OPTIONS"] = {"pool": {"min_size": 1, "max_size": pool, "timeout": 5}}
    site.settings(DATABASES={"default": here}, CELERY_RESULT_BACKEND="django-db", **values)
    site.manage("migrate", "-v0")
    return str(here["NAME"])


@pytest.mark.parametrize("pool", ["prefork", "threads", "asyncio"])
def test_a_pool_of_two_is_enough(empty_site: Site, postgres: PostgreSQL, pool: str) -> None:
    """Nothing keeps a connection of the pool: a task that left a transaction open, least of all."""
    name = _on(empty_site, postgres, pool=2)
    worker = empty_site.worker("-c", "2", "-P", pool)
    found = empty_site.shell("""
        from celeriac import group
        from orders.models import Order
        from orders.tasks import count, leave_a_transaction, look_at_results_while_reading, read_slowly
        from orders.tasks import state_of_connection as task
        for kind in ("atomic", "autocommit") * 3:
            leave_a_transaction.delay(kind).get(timeout=30)
        Order.objects.bulk_create([Order(name=f"o{n}") for n in range(5)])
        many = group([task.s() for _ in range(20)] + [count.s() for _ in range(20)])
        slowly = read_slowly.delay(0.05)
        print(json.dumps([
            many.apply_async().get(timeout=30)[20:],
            slowly.get(timeout=30),
            look_at_results_while_reading.delay().get(timeout=30),
            Order.objects.count(),
        ]))
    """)
    names = [f"o{n}" for n in range(5)]
    assert found == [[5] * 20, names, names, 5]
    assert "the pool" not in worker.output() and "couldn't get a connection" not in worker.output()
    assert worker.stop() == 0, worker.output()
    eventually(lambda: not postgres.clients(name), saying="no connection that is left")


def test_a_server_that_restarts(empty_site: Site, postgres: PostgreSQL) -> None:
    """Kept connections that broke are made anew; a result that could not be written is, later."""
    _on(empty_site, postgres)
    empty_site.environ["CONN_MAX_AGE"] = "600"
    empty_site.worker("-c", "1")
    source = """
        from orders.tasks import add
        print(json.dumps([add.delay(n, n).get(timeout=30) for n in range(3)]))
    """
    assert empty_site.shell(source) == [0, 2, 4]
    waiting = empty_site.shell("""
        from celeriac import chord
        from letters.jobs import post
        from orders.tasks import add
        print(json.dumps(chord([add.s(n, 1).set(countdown=1) for n in range(3)], post.s()).delay().id))
    """)
    postgres.restart()
    assert empty_site.shell(source) == [0, 2, 4]
    found = empty_site.shell(f"""
        from shop import celery_app as app
        print(json.dumps(app.AsyncResult({waiting!r}).get(timeout=30)))
    """)
    assert found == "posted [1, 2, 3]"


def test_two_beats_send_each_tick_once(empty_site: Site, postgres: PostgreSQL) -> None:
    _on(empty_site, postgres, CELERY_BEAT_SCHEDULER="django")
    beats = [empty_site.start("manage.py", "celeriac", "beat", "-l", "INFO") for _ in range(2)]
    for beat in beats:
        eventually(lambda beat=beat: "beat: Starting" in beat.output(), saying="a beat")  # type: ignore[misc]
    sent = empty_site.shell("""
        from celeriac.contrib.django.models import IntervalSchedule, PeriodicTask
        from celeriac.testing.eventually import eventually
        from shop import celery_app as app
        every = IntervalSchedule.objects.create(every=1, period="seconds")
        for n in range(5):
            PeriodicTask.objects.create(name=f"e{n}", task="orders.tasks.add", interval=every, args="[1, 2]")
        eventually(lambda: all(e.total_run_count >= 2 for e in PeriodicTask.objects.all()))
        PeriodicTask.objects.update(enabled=False)
        runs = lambda: sum(PeriodicTask.objects.values_list("total_run_count", flat=True))
        waiting = lambda: sum(c.ready + c.delayed for c in app.broker.count(()).values())
        eventually(lambda: runs() == waiting(), within=5)
        print(json.dumps([runs(), waiting()]))
    """)
    assert sent[0] == sent[1] >= 10
    assert [beat.stop() for beat in beats] == [0, 0]


def test_djangos_test_runner_can_drop_its_database(empty_site: Site, postgres: PostgreSQL) -> None:
    """A watcher that has nothing to wait for holds no connection; tests send what they commit."""
    name = _on(empty_site, postgres)
    (empty_site.folder / "orders" / "tests.py").write_text("""
from django.db import transaction
from django.test import TestCase, TransactionTestCase
from celeriac.contrib.django.models import TaskResult
from celeriac.testing import running_worker
from orders.models import Order
from orders.tasks import add, ship
from shop import celery_app as app


class Sent(TestCase):
    def test_on_commit(self):
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            with transaction.atomic():
                ship.delay_on_commit(1)
                try:
                    with transaction.atomic():
                        ship.delay_on_commit(2)
                        raise KeyError
                except KeyError:
                    pass
        self.assertEqual(len(callbacks), 1)

    def test_eager(self):
        app.conf.task_always_eager = app.conf.task_store_eager_result = True
        self.addCleanup(app.conf.update, task_always_eager=False, task_store_eager_result=False)
        order = Order.objects.create(name="tea")
        self.assertEqual(ship.delay(order.pk).get(), "tea")
        order.refresh_from_db()
        self.assertEqual(order.state, "shipped")
        self.assertEqual(TaskResult.objects.get().result, '"tea"')


class Run(TransactionTestCase):
    def test_with_a_worker(self):
        with running_worker(app, in_memory=False):
            order = Order.objects.create(name="milk")
            self.assertEqual(ship.delay(order.pk).get(timeout=20), "milk")
            self.assertEqual(add.delay(1, 2).get(timeout=20), 3)
""")
    empty_site.run("manage.py", "test", "--noinput")
    left = postgres.execute("SELECT datname FROM pg_database WHERE datname = %s", f"test_{name}")
    assert left == []
