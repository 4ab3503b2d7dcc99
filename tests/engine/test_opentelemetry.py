"""OpenTelemetry's Celery instrumentation on celeriac: one trace from the sender to the last task."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.testing import TaskKit

trace = pytest.importorskip("opentelemetry.trace")
pytest.importorskip("opentelemetry.instrumentation.celery")

from celeriac.contrib.opentelemetry import CeleriacInstrumentor  # noqa: E402


class Span(trace.NonRecordingSpan):  # type: ignore[misc]
    """A span that keeps what it is told, as an SDK's does."""

    def __init__(self, name: str, kind: Any, parent: Any) -> None:
        trace_id = parent.trace_id if parent.is_valid else random.getrandbits(128)
        context = trace.SpanContext(
            trace_id, random.getrandbits(64), is_remote=False, trace_flags=trace.TraceFlags(1)
        )
        super().__init__(context)
        self.name, self.kind, self.parent = name, kind, parent
        self.attributes: dict[str, Any] = {}
        self.errors: list[BaseException] = []
        self.ended = 0
        self.status: Any = None

    def is_recording(self) -> bool:
        return not self.ended

    def set_attribute(self, key: str, value: Any) -> None:
        self.attributes[key] = value

    def record_exception(self, exception: BaseException, *args: Any, **kwargs: Any) -> None:
        self.errors.append(exception)

    def set_status(self, status: Any, description: str | None = None) -> None:
        self.status = status

    def end(self, end_time: int | None = None) -> None:
        self.ended += 1


class Tracer(trace.NoOpTracer):  # type: ignore[misc]
    """Keeps its spans."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def start_span(self, name: str, context: Any = None, **kwargs: Any) -> Span:
        parent = trace.get_current_span(context).get_span_context()
        self.spans.append(Span(name, kwargs.get("kind"), parent))
        return self.spans[-1]


class Provider(trace.TracerProvider):  # type: ignore[misc]
    """Gives one tracer."""

    def __init__(self) -> None:
        self.tracer = Tracer()

    def get_tracer(self, *args: Any, **kwargs: Any) -> Tracer:
        return self.tracer


@pytest.fixture
def spans() -> Iterator[list[Span]]:
    provider = Provider()
    CeleriacInstrumentor().instrument(tracer_provider=provider)
    yield provider.tracer.spans
    CeleriacInstrumentor().uninstrument()


def test_one_trace_through_a_link(app: Celeriac, kit: TaskKit, spans: list[Span]) -> None:
    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    result = add.apply_async((1, 1), link=add.s(1))
    kit.run_until_empty()
    name = add.name
    assert [span.name for span in spans] == [
        f"apply_async/{name}",
        f"run/{name}",
        f"apply_async/{name}",
        f"run/{name}",
    ]
    assert all(span.ended == 1 for span in spans)
    assert len({span.get_span_context().trace_id for span in spans[:2]}) == 1
    sent, ran, *_ = spans
    assert ran.parent.span_id == sent.get_span_context().span_id
    assert sent.attributes["messaging.message.id"] == result.id
    assert ran.attributes["celery.task_name"] == name
    assert ran.attributes["celery.state"] == "SUCCESS"
    assert not trace.get_current_span().get_span_context().is_valid


def test_a_batch_leaves_no_span_open(app: Celeriac, kit: TaskKit, spans: list[Span]) -> None:
    @app.task
    def work() -> None: ...

    with app.batch():
        work.delay()
        app.send_task("elsewhere.work")
    assert [span.ended for span in spans] == [1, 1]
    assert not trace.get_current_span().get_span_context().is_valid


def test_a_failure_is_in_its_span(app: Celeriac, kit: TaskKit, spans: list[Span]) -> None:
    @app.task
    def fail() -> None:
        raise ValueError("out of paper")

    fail.delay()
    kit.run_until_empty(failures="keep")
    (error,) = spans[1].errors
    assert isinstance(error, ValueError)
    assert spans[1].status.status_code is trace.StatusCode.ERROR
    assert "out of paper" in spans[1].status.description
    assert spans[1].ended == 1


def test_a_retry_has_its_reason(app: Celeriac, kit: TaskKit, spans: list[Span]) -> None:
    @app.task(bind=True)
    def flaky(self: Any) -> None:
        if not self.request.retries:
            raise self.retry(countdown=0, exc=OSError("away"))

    flaky.delay()
    kit.run_until_empty()
    runs = [span for span in spans if span.name.startswith("run/")]
    assert "away" in runs[0].attributes["celery.retry.reason"]
    assert runs[0].attributes["celery.state"] == "RETRY"
    # The retry is the same message: it stays in the trace.
    assert len({span.get_span_context().trace_id for span in runs}) == 1


def test_nothing_is_left_when_it_is_taken_off(app: Celeriac, kit: TaskKit) -> None:
    from celeriac.client.signals import SIGNALS

    before = [signal.receivers for signal in SIGNALS]
    CeleriacInstrumentor().instrument(tracer_provider=Provider())
    CeleriacInstrumentor().uninstrument()
    assert [signal.receivers for signal in SIGNALS] == before
