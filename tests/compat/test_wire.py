"""`wire="celery"`: where it may be said, what it does, and where it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.drivers.redis import RedisFamily
from celeriac.drivers.redis.fields import fields
from celeriac.exceptions import CeleryError, ImproperlyConfigured
from celeriac.kernel.errors import BrokerRejected, CapabilityMissing
from celeriac.kernel.message import Envelope
from celeriac.kernel.routing import Queue


def _app(broker: str = "memory://", **settings: Any) -> Celeriac:
    app = Celeriac("w", broker=broker, set_as_current=False)
    app.conf.update(settings)
    return app


def _sent(app: Celeriac, **options: Any) -> Envelope:
    from celeriac.client.compose import compose

    return compose(app, "t", (), {}, options)[0]


def test_a_queue_a_route_or_a_call_says_it() -> None:
    app = _app(
        task_queues={"theirs": {"wire": "celery"}, "ours": {}},
        task_default_queue="ours",
        task_routes={"t": {}},
    )
    assert _sent(app).wire == ""
    assert _sent(app, queue="theirs").wire == "celery"
    assert _sent(app, queue="theirs", wire="native").wire == ""
    assert _sent(app, wire="celery").wire == "celery"
    app.conf.task_routes = {"t": {"queue": "ours", "wire": "celery"}}
    assert _sent(app).wire == "celery"
    app.close()


def test_what_says_no_priority_has_celerys_default() -> None:
    app = _app()
    assert _sent(app, wire="celery").priority == 9
    assert _sent(app, wire="celery", priority=2).priority == 2
    app.conf.task_default_priority = 4
    assert _sent(app, wire="celery").priority == 4
    app.close()


@pytest.mark.parametrize("wrong", ["kombu", 5, ["celery"]])
def test_an_unknown_form_is_refused(wrong: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="wire is"):
        Queue.of({"wire": wrong}, "q")
    app = _app()
    with pytest.raises(ImproperlyConfigured, match="wire is"):
        _sent(app, wire=wrong)
    app.close()


def test_a_broker_that_cannot_write_it_refuses(tmp_path: Path) -> None:
    app = _app(f"sqlite:///{tmp_path / 'q.db'}")
    with pytest.raises(CapabilityMissing, match="Redis"):
        app.send_task("t", wire="celery")
    assert issubclass(CapabilityMissing, CeleryError)
    app.close()


def test_a_cluster_refuses() -> None:
    family = RedisFamily("redis+cluster://127.0.0.1:1", {})
    assert family.broker().caps.wires == frozenset()
    with pytest.raises(BrokerRejected, match="Cluster"):
        fields(Envelope("a", "q", b"", wire="celery"), 0.0, None)
    family.close()
