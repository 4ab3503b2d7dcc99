"""OpenTelemetry's own Celery instrumentation, connected to celeriac's signals.

    from celeriac.contrib.opentelemetry import CeleriacInstrumentor

    @worker_process_init.connect
    def trace(**kwargs):
        CeleriacInstrumentor().instrument()

Spans, attributes and the header `traceparent` are those of `opentelemetry-instrumentation-celery`,
which must be installed, and with it Celery: a program that sends with Celery and a worker of
celeriac are one trace.

Owns: CeleriacInstrumentor.  May import: client.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from billiard.einfo import ExceptionInfo  # type: ignore[import-untyped]
from opentelemetry.instrumentation.celery import CeleryInstrumentor

from celeriac.client import signals
from celeriac.client.current import get_current_app


class _Unknown:
    """Stands in for a task that is sent by its name only."""

    def __init__(self, name: str) -> None:
        self.name = name


_Theirs: Any = CeleryInstrumentor  # its methods have no types


class CeleriacInstrumentor(_Theirs):  # type: ignore[misc]
    """Makes spans of what is sent and run; options as `CeleryInstrumentor.instrument` takes them."""

    # A singleton of its own: a program may send with Celery beside celeriac.
    _instance = None
    _is_instrumented_by_opentelemetry = False

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return nothing: no version of Celery is needed to run."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        super()._instrument(**kwargs)
        super()._uninstrument()  # from Celery's signals
        for signal, receiver in self._receivers():
            signal.connect(receiver, weak=False)

    def _uninstrument(self, **kwargs: Any) -> None:
        for signal, receiver in self._receivers():
            signal.disconnect(receiver)

    def _receivers(self) -> list[tuple[signals.Signal, Any]]:
        return [
            (signals.task_prerun, self._trace_prerun),
            (signals.task_postrun, self._trace_postrun),
            (signals.before_task_publish, self._on_publish),
            (signals.task_failure, self._on_failure),
            (signals.task_retry, self._trace_retry),
        ]

    def _on_publish(self, sender: Any, **kwargs: Any) -> None:
        # The span ends at once: what a batch sends is sent later, all of it, and spans that are
        # current at the same time would have to end in the reverse order.
        task = get_current_app().tasks.get(sender) or _Unknown(sender)
        self._trace_before_publish(sender=task, **kwargs)
        self._trace_after_publish(sender=task, **kwargs)

    def _on_failure(self, exception: BaseException, einfo: Any, **kwargs: Any) -> None:
        info = (type(exception), exception, exception.__traceback__)
        self._trace_failure(exception=exception, einfo=ExceptionInfo(info), **kwargs)
