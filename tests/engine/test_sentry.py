"""Errors to Sentry by signals: its own integration patches Celery's code, which is not in use here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.client.signals import SIGNALS
from celeriac.signals import task_failure, task_postrun, task_prerun
from celeriac.testing import TaskKit

sentry_sdk = pytest.importorskip("sentry_sdk")


@pytest.fixture
def events() -> Iterator[list[dict[str, Any]]]:
    """Return what Sentry would be sent."""
    before = {signal: signal.receivers for signal in SIGNALS}
    sent: list[dict[str, Any]] = []

    class Transport(sentry_sdk.transport.Transport):  # type: ignore[misc, name-defined]
        """Sends nothing."""

        def capture_envelope(self, envelope: Any) -> None:
            sent.extend(filter(None, [envelope.get_event()]))

    sentry_sdk.init(
        dsn="https://key@localhost/1",
        transport=Transport,
        default_integrations=False,
        auto_enabling_integrations=False,
    )
    yield sent
    sentry_sdk.init()
    for signal, receivers in before.items():
        signal.receivers = receivers


def connect() -> None:
    """Do what docs/from-celery.md says."""
    scopes: dict[str, Any] = {}

    @task_prerun.connect(weak=False)
    def begin(task_id: str, task: Any, args: Any, kwargs: Any, **rest: Any) -> None:
        scopes[task_id] = scope = sentry_sdk.isolation_scope()
        scope.__enter__().set_tag("celery_task_id", task_id)
        sentry_sdk.set_context("celery-job", {"task_name": task.name, "args": args})

    @task_failure.connect(weak=False)
    def report(sender: Any, exception: BaseException, **rest: Any) -> None:
        if not isinstance(exception, tuple(sender.throws)):
            sentry_sdk.capture_exception(exception)

    @task_postrun.connect(weak=False)
    def end(task_id: str, **rest: Any) -> None:
        scopes.pop(task_id).__exit__(None, None, None)


def test_a_failure_is_reported_with_its_task(
    app: Celeriac, kit: TaskKit, events: list[dict[str, Any]]
) -> None:
    connect()

    @app.task(throws=(KeyError,))
    def fail(kind: str) -> None:
        raise KeyError(kind) if kind == "expected" else ValueError(kind)

    fail.delay("expected")
    result = fail.delay("out of paper")
    kit.run_until_empty(failures="keep")
    (event,) = events
    (error,) = event["exception"]["values"]
    assert (error["type"], error["value"]) == ("ValueError", "out of paper")
    assert error["stacktrace"]["frames"][-1]["function"] == "fail"
    assert event["tags"]["celery_task_id"] == result.id
    assert event["contexts"]["celery-job"]["task_name"] == fail.name
