"""Celery's module of schedules, and `cron` beside it.

Owns: nothing; re-exports.  May import: kernel.
"""

from celeriac.kernel.crontab import ParseException
from celeriac.kernel.schedules import (
    Schedule,
    clocked,
    cron,
    crontab,
    maybe_schedule,
    schedstate,
    schedule,
)
from celeriac.kernel.solar import solar

BaseSchedule = Schedule

__all__ = [
    "BaseSchedule",
    "ParseException",
    "clocked",
    "cron",
    "crontab",
    "maybe_schedule",
    "schedstate",
    "schedule",
    "solar",
]
