"""Celery's module of periodic tasks: the scheduler, its entries, and the service that runs it.

Owns: nothing; re-exports.  May import: beat.
"""

from celeriac.beat.entries import BeatLazyFunc
from celeriac.beat.scheduler import (
    PersistentScheduler,
    ScheduleEntry,
    Scheduler,
    SchedulingError,
)
from celeriac.beat.service import Beat

Service = EmbeddedService = Beat

__all__ = [
    "Beat",
    "BeatLazyFunc",
    "EmbeddedService",
    "PersistentScheduler",
    "ScheduleEntry",
    "Scheduler",
    "SchedulingError",
    "Service",
]
