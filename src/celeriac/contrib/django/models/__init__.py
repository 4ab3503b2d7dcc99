"""The tables: results of tasks, chords that are counted, and the schedule.

Owns: nothing; see results and schedules.  May import: django.
"""

from celeriac.contrib.django.models.results import Chord, ChordGrowth, ChordPart, TaskResult
from celeriac.contrib.django.models.schedules import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)

__all__ = [
    "Chord",
    "ChordGrowth",
    "ChordPart",
    "ClockedSchedule",
    "CrontabSchedule",
    "IntervalSchedule",
    "PeriodicTask",
    "SolarSchedule",
    "TaskResult",
]
