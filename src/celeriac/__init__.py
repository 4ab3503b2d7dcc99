"""A distributed task queue: Celery's API and Celery's protocols on a new engine.

The names are imported when they are first used: `pytest` loads this package for its plugin, and
the command line for its help, and neither needs the engine for that.
"""

import importlib as _importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "AsyncResult",
    "Celeriac",
    "Celery",
    "Exchange",
    "Queue",
    "Signature",
    "Task",
    "__version__",
    "binding",
    "chain",
    "chord",
    "chunks",
    "current_app",
    "current_task",
    "group",
    "maybe_signature",
    "shared_task",
    "signature",
    "subtask",
    "uuid",
    "xmap",
    "xstarmap",
]

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac, Celery, shared_task
    from celeriac.client.current import current_app, current_task
    from celeriac.client.result import AsyncResult
    from celeriac.client.task import Task
    from celeriac.kernel.canvas import chain, chord, group
    from celeriac.kernel.entities import Exchange, Queue, binding
    from celeriac.kernel.ids import uuid
    from celeriac.kernel.maps import chunks, xmap, xstarmap
    from celeriac.kernel.signature import Signature, maybe_signature, signature

    subtask = signature
else:
    _HOMES = {
        "Celeriac": "client.app",
        "Celery": "client.app",
        "shared_task": "client.app",
        "current_app": "client.current",
        "current_task": "client.current",
        "AsyncResult": "client.result",
        "Task": "client.task",
        "uuid": "kernel.ids",
        "Queue": "kernel.entities",
        "Exchange": "kernel.entities",
        "binding": "kernel.entities",
        "Signature": "kernel.signature",
        "signature": "kernel.signature",
        "subtask": "canvas",
        "maybe_signature": "kernel.signature",
        "chain": "kernel.canvas",
        "chord": "kernel.canvas",
        "chunks": "kernel.maps",
        "group": "kernel.canvas",
        "xmap": "kernel.maps",
        "xstarmap": "kernel.maps",
    }

    def __getattr__(name):
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        # Whoever wants one of them wants the app: the names after this one cost nothing.
        _importlib.import_module(f"{__name__}.client.app")
        found = getattr(_importlib.import_module(f"{__name__}.{home}"), name)
        globals()[name] = found
        return found

    def __dir__():
        return sorted([*globals(), *_HOMES])
