"""Pauses and revocations over RabbitMQ with results by reply: they outlive workers, and the server."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.testing import running_worker
from celeriac.testing.eventually import eventually
from tests.support.rabbitmq import RabbitMQ

pytest.importorskip("celeriac.drivers.amqp")
pytestmark = [pytest.mark.service, pytest.mark.timeout(150)]


def make(url: str) -> Celeriac:
    app = Celeriac("orders", broker=url, backend="rpc://", set_as_current=False)

    @app.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    return app


@pytest.fixture
def url(rabbitmq: RabbitMQ, request: pytest.FixtureRequest) -> str:
    return rabbitmq.vhost(request.node.name)


@pytest.fixture
def app(url: str) -> Iterator[Celeriac]:
    with make(url) as app:
        yield app


def test_they_outlive_every_worker(app: Celeriac, url: str) -> None:
    with make(url) as theirs, running_worker(theirs, hostname="w1@here", in_memory=False) as worker:
        app.control.pause("celery", destination=["w1@here"], reply=True, timeout=20.0)
        assert worker.remote.paused == {"celery"}
        never, kept = app.send_task("add", (0, 0)), app.send_task("add", (1, 2))
        app.control.revoke(never.id)
        eventually(lambda: worker.revoked.ids() == [never.id])
    # Nobody is there who could tell the next one.
    assert app.control.paused() == ["celery"]
    with make(url) as theirs, running_worker(theirs, hostname="w2@here", in_memory=False) as worker:
        assert worker.remote.paused == {"celery"}
        assert worker.revoked.ids() == [never.id]
        eventually(lambda: app.broker.count(["celery"])["celery"].ready == 2)
        app.control.resume("celery")
        assert kept.get(timeout=20) == 3
        eventually(lambda: never.state == "REVOKED")
    assert app.control.paused() == []


def test_a_server_that_comes_back(rabbitmq: RabbitMQ, app: Celeriac) -> None:
    app.control.pause("celery")
    orders: Any = app.orders
    mark, found = orders.since(0)
    assert [(one.kind, one.key) for one in found] == [("pause", "celery")]
    rabbitmq.ctl("close_all_connections", "a test")
    app.control.pause("mail")
    # A reader goes on where it was, and reads nothing twice.
    eventually(lambda: [one.key for one in orders.since(mark)[1]] == ["mail"], within=30)


def test_a_server_without_streams(app: Celeriac, caplog: pytest.LogCaptureFixture) -> None:
    """Revocations still reach the workers that listen; a pause says what is missing."""
    orders: Any = app.orders
    orders._refused = "this server keeps no standing orders, as they need streams"
    with (
        make(app.broker_url) as theirs,
        running_worker(theirs, hostname="w1@here", in_memory=False) as worker,
    ):
        with caplog.at_level(logging.WARNING, logger="celeriac.control"):
            app.control.revoke("some-id")
        eventually(lambda: worker.revoked.ids() == ["some-id"])
    assert "only workers that listen now" in caplog.text
    with pytest.raises(Exception, match="streams"):
        app.control.pause("celery")
