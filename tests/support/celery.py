"""The end of an app of Celery's: what it opened is closed while its server still runs.

Celery's `close` leaves its connections and its results' subscriptions to the collector.  A result
that is collected after the server's end tries to reconnect, in whatever code just runs, and logs
that it cannot.

Owns: open_celery, close_celery.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Any

import celery
import kombu.pools


@contextlib.contextmanager
def open_celery(name: str, **options: Any) -> Iterator[celery.Celery]:
    """Make an app of Celery's and close it at the end."""
    app = celery.Celery(name, **options)
    try:
        yield app
    finally:
        close_celery(app)


def close_celery(app: Any) -> None:
    """Close an app of Celery's with its result consumer and its pools."""
    # Results that nobody holds any more say good-bye now.
    gc.collect()
    backend = app.backend
    consumer = getattr(backend, "result_consumer", None)
    if consumer is not None:
        consumer.stop()
        if hasattr(consumer, "_pubsub"):
            # A result that is held longer finds nothing to unsubscribe from.
            consumer._pubsub = None
    pool = getattr(vars(backend).get("client"), "connection_pool", None)
    if pool is not None:
        pool.disconnect()
    # All of the process: those of one URL are shared, and an app makes new ones when it needs some.
    kombu.pools.reset()
    app.close()
