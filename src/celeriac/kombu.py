"""The names that programs import from `kombu` beside Celery's: `from celeriac.kombu import Queue`.

Owns: nothing; re-exports.  May import: kernel.
"""

from celeriac.kernel.entities import Broadcast, Exchange, Queue, binding

__all__ = ["Broadcast", "Exchange", "Queue", "binding"]
