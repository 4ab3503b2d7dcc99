"""A Django project's settings, apps, connections and transactions, in real processes."""

from __future__ import annotations

import pytest
from tests.django.conftest import Site
from tests.support.project import eventually


def test_settings_and_tasks_are_found(site: Site) -> None:
    worker = site.worker("-c", "1")
    found = site.shell("""
        from shop import celery_app as app
        from orders.tasks import ship, add
        from letters.jobs import post
        from orders.models import Order
        order = Order.objects.create(name="tea")
        print(json.dumps([
            str(app.timezone),
            ship.delay(order.pk).get(timeout=20),
            Order.objects.get().state,
            post.delay("a letter").get(timeout=20),
            type(add).__mro__[1].__name__,
            app.send_task("orders.tasks.count").get(timeout=20),
        ]))
    """)
    assert found == ["Europe/Berlin", "tea", "shipped", "posted a letter", "DjangoTask", 1]
    for name in ("orders.tasks.ship", "letters.jobs.post"):
        assert name in worker.output()
    assert worker.stop() == 0


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_connections_end_with_their_task(site: Site, pool: str) -> None:
    site.worker("-c", "1", "-P", pool)
    found = site.shell("""
        from orders.tasks import state_of_connection as task
        print(json.dumps([task.delay().get(timeout=20) for _ in range(3)]))
    """)
    assert [one["was_open"] for one in found] == [False] * 3


def test_connections_are_kept_for_their_age(site: Site) -> None:
    site.environ["CONN_MAX_AGE"] = "600"
    site.worker("-c", "1")
    found = site.shell("""
        from orders.tasks import state_of_connection as task
        print(json.dumps([task.delay().get(timeout=20) for _ in range(3)]))
    """)
    # The connection that an app opened before the fork is not the child's.
    assert [one["was_open"] for one in found] == [False, True, True]
    assert len({one["connection"] for one in found}) == 1


def test_a_transaction_left_open_is_rolled_back(site: Site) -> None:
    site.environ["CONN_MAX_AGE"] = "600"
    site.worker("-c", "1")
    found = site.shell("""
        from orders.models import Order
        from orders.tasks import state_of_connection as task, leave_a_transaction
        before = task.delay().get(timeout=20)
        seen = []
        for kind in ("atomic", "autocommit"):
            leave_a_transaction.delay(kind).get(timeout=20)
            seen.append([task.delay().get(timeout=20)["was_open"], Order.objects.count()])
        print(json.dumps(seen))
    """)
    assert found == [[False, 0]] * 2


def test_queries_do_not_pile_up(site: Site) -> None:
    site.environ["CONN_MAX_AGE"] = "600"
    site.settings(DEBUG=True)
    worker = site.worker("-c", "1")
    found = site.shell("""
        from orders.tasks import state_of_connection as task
        print(json.dumps([task.delay().get(timeout=20) for _ in range(3)]))
    """)
    assert [one["queries"] for one in found] == [1, 1, 1]
    assert worker.output().count("DEBUG is True in Django's settings") == 1


def test_on_commit(site: Site) -> None:
    found = site.shell("""
        from django.db import transaction
        from celeriac.exceptions import EncodeError
        from shop import celery_app as app
        from orders.models import Order
        from orders.tasks import add, ship

        def waiting():
            return sum(count.ready + count.delayed for count in app.broker.count(()).values())

        seen = []
        with transaction.atomic():
            add.delay_on_commit(1, 2)
            add.apply_async_on_commit((3, 4), countdown=60)
            seen.append(waiting())
            try:
                add.delay_on_commit(1)
            except TypeError as error:
                seen.append(type(error).__name__)
            try:
                add.delay_on_commit(1, Order())
            except EncodeError as error:  # not after the commit
                seen.append(type(error).__name__)
            try:
                with transaction.atomic():
                    add.delay_on_commit(1, 2)
                    raise RuntimeError
            except RuntimeError:
                pass
        seen.append(waiting())
        try:
            with transaction.atomic():
                ship.delay_on_commit(1)
                raise RuntimeError
        except RuntimeError:
            seen.append(waiting())
        add.delay_on_commit(5, 6)
        seen.append(waiting())
        print(json.dumps(seen))
    """)
    assert found == [0, "TypeError", "EncodeError", 2, 2, 3]


def test_a_view_sends_after_its_commit(site: Site) -> None:
    site.worker("-c", "1")
    found = site.shell("""
        from django.test import Client
        from celeriac.testing.eventually import eventually
        from orders.models import Order
        answer = Client().get("/buy/tea")
        eventually(lambda: Order.objects.get(pk=answer.json()["order"]).state == "shipped")
        print(json.dumps(answer.status_code))
    """)
    assert found == 200


def test_instances_are_refused_and_references_are_not(site: Site) -> None:
    site.worker("-c", "1")
    found = site.shell("""
        import pickle
        from django.utils.translation import gettext_lazy
        from celeriac.contrib.django.arguments import Reference, reference
        from celeriac.exceptions import EncodeError
        from orders.models import Order
        from orders.tasks import add, ship_all
        order = Order.objects.create(name="tea")
        said = []
        for wrong in (order, Order.objects.all()):
            try:
                ship_all.delay(wrong)
            except EncodeError as error:
                said.append(str(error))
        given = reference(order)
        right = ship_all.delay(given).get(timeout=20)
        order.refresh_from_db()
        Order.objects.all().delete()
        gone = ship_all.delay(given)
        pickled = pickle.loads(pickle.dumps(given))
        said.append([type(pickled).__name__, isinstance(pickled, Reference)])
        said.append(add.delay(gettext_lazy("a "), "b").get(timeout=20))
        error = gone.get(timeout=20, propagate=False)
        try:
            reference(Order())
        except ValueError as unsaved:
            said.append(str(unsaved))
        print(json.dumps([said, right, order.state, gone.state, type(error).__name__]))
    """)
    (instance, query, pickled, lazy, unsaved), right, state, gone, error = found
    assert "orders.Order cannot be an argument" in instance and "pass its key (1)" in instance
    assert "a QuerySet of orders.Order" in query and "values_list" in query
    assert "is not saved" in unsaved
    assert pickled == ["Reference", True] and lazy == "a b"
    assert right == ["Order", "tea", True] and state == "shipped"
    assert gone == "FAILURE" and "DoesNotExist" in error


def test_broken_tasks_module_names_file_and_line(site: Site) -> None:
    (site.folder / "letters" / "jobs.py").write_text("from celeriac import shared_task\n\n1 / 0\n")
    said = site.run("-m", "celeriac", "-A", "shop", "worker", ok=False)
    assert "ZeroDivisionError" in said and "jobs.py" in said and "line 3" in said


def test_wrong_setting_names_the_nearest(site: Site) -> None:
    site.settings(CELERY_WORKER_CONCURENCY=3)
    said = site.run("-m", "celeriac", "-A", "shop", "worker", ok=False)
    assert "CELERY_WORKER_CONCURENCY" in said and "CELERY_WORKER_CONCURRENCY" in said


def test_a_worker_starts_again_when_code_changes(site: Site) -> None:
    worker = site.start("manage.py", "celeriac", "worker", "-l", "INFO", "-c", "1", "--reload")
    worker.wait_ready()
    path = site.folder / "letters" / "jobs.py"
    path.write_text(path.read_text().replace("posted {text}", "posted again {text}"))
    eventually(lambda: worker.output().count(" ready.") == 2, saying="a second start")
    found = site.shell("""
        from letters.jobs import post
        print(json.dumps(post.delay("it").get(timeout=20)))
    """)
    assert found == "posted again it"
    assert worker.stop() == 0


def test_a_broker_that_is_away_is_an_error_in_bounded_time(site: Site) -> None:
    site.settings(CELERY_BROKER_URL="redis://127.0.0.1:1/0", CELERY_BROKER_PUBLISH_TIMEOUT=1)
    found = site.shell("""
        import logging, time
        from django.db import transaction
        from django.test import Client
        from orders.models import Order
        from orders.tasks import ship
        logging.disable(logging.CRITICAL)
        client = Client(raise_request_exception=False)
        began = time.monotonic()
        failed = client.get("/buy/tea").status_code
        took = time.monotonic() - began
        with transaction.atomic():
            ship.apply_async_on_commit((1,), robust=True)
        print(json.dumps([failed, took, Order.objects.count(), client.get("/nowhere").status_code]))
    """)
    failed, took, orders, nowhere = found
    assert (failed, orders, nowhere) == (500, 1, 404)
    assert took < 10


def test_manage_takes_djangos_options_and_finds_a_project_inside(site: Site) -> None:
    inner = site.folder / "src" / "conf"
    inner.mkdir(parents=True)
    for package in (inner, inner.parent):
        (package / "__init__.py").touch()
    (inner / "celery.py").write_text("from shop.celery import app\n")
    (inner / "settings.py").write_text("from shop.settings import *\n")
    for words in (["--settings", "src.conf.settings"], ["--settings=src.conf.settings"]):
        said = site.manage("celeriac", "list", "queues", *words, "--pythonpath=.", ok=True)
        assert "celery" in said
