"""A distributed task queue: Celery's API and Celery's protocols on a new engine."""

from celeriac.client.app import Celeriac, Celery, shared_task
from celeriac.client.current import current_app, current_task
from celeriac.client.result import AsyncResult
from celeriac.client.task import Task
from celeriac.kernel.ids import uuid
from celeriac.kernel.signature import Signature

__version__ = "0.1.0"

__all__ = [
    "AsyncResult",
    "Celeriac",
    "Celery",
    "Signature",
    "Task",
    "__version__",
    "current_app",
    "current_task",
    "shared_task",
    "uuid",
]
