"""Celery's scheduler class, for those who derive from it: entries in memory, sent by one process.

celeriac's own beat does not use it: `-S module:Class` or `beat_scheduler` does, and then beat must
be alone, as in Celery.

Owns: Scheduler, PersistentScheduler, ScheduleEntry, SchedulingError.
Thread rule: one thread.  May import: kernel, client, beat.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from celeriac.beat.entries import BeatLazyFunc
from celeriac.kernel.errors import CeleryError
from celeriac.kernel.schedules import Schedule, maybe_schedule, schedstate

logger = logging.getLogger("celeriac.beat")


class SchedulingError(Exception):
    """A periodic task could not be sent."""


class ScheduleEntry:
    """One entry of a scheduler.

    :param last_run_at: an aware datetime; now where None.
    """

    def __init__(
        self,
        name: str | None = None,
        task: str | None = None,
        last_run_at: dt.datetime | None = None,
        total_run_count: int | None = None,
        schedule: Any = None,
        args: Any = (),
        kwargs: Any = None,
        options: Any = None,
        relative: bool = False,
        app: Any = None,
    ) -> None:
        self.app = app
        self.name, self.task = name, task
        self.args = args
        self.kwargs: dict[str, Any] = dict(kwargs or {})
        self.options: dict[str, Any] = dict(options or {})
        self.schedule: Schedule = maybe_schedule(schedule, relative, app=app)
        self.last_run_at = last_run_at or self.default_now()
        self.total_run_count = total_run_count or 0

    def default_now(self) -> dt.datetime:
        """Return the current time."""
        return self.schedule.now()

    def is_due(self) -> Any:
        """Return whether it is due, and the seconds until it is again."""
        return self.schedule.is_due(self.last_run_at)

    def __next__(self, last_run_at: dt.datetime | None = None) -> ScheduleEntry:
        """Return the entry as it is after a run."""
        parts = {**vars(self), "last_run_at": last_run_at or self.default_now()}
        return self.__class__(**{**parts, "total_run_count": self.total_run_count + 1})

    next = __next__

    def update(self, other: ScheduleEntry) -> None:
        """Take what may be edited from another entry; times and counts stay."""
        for name in ("task", "schedule", "args", "kwargs", "options"):
            setattr(self, name, getattr(other, name))

    def editable_fields_equal(self, other: ScheduleEntry) -> bool:
        """Return whether `update` would change nothing."""
        names = ("task", "args", "kwargs", "options", "schedule")
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(vars(self).items())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.name} {self.task}({self.args!r}) {self.schedule}>"


class Scheduler:
    """Entries in memory, and what sends them.

    :param schedule: a mapping of entries.
    :param max_interval: seconds of the longest sleep.
    """

    Entry = ScheduleEntry
    max_interval: float = 300.0
    sync_every: float = 180.0
    logger = logger

    def __init__(
        self,
        app: Any,
        schedule: Any = None,
        max_interval: float | None = None,
        Producer: Any = None,  # noqa: N803 - Celery's name
        lazy: bool = False,
        sync_every_tasks: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.app = app
        self.data: dict[str, Any] = {} if schedule is None else schedule
        self.max_interval = max_interval or app.conf.beat_max_loop_interval or self.max_interval
        self._synced_at = app.clock.monotonic()
        if not lazy:
            self.setup_schedule()

    # -- for a class of one's own to define -------------------------------------------------------

    def setup_schedule(self) -> None:
        """Fill the schedule."""
        self.install_default_entries(self.data)
        self.merge_inplace(self.app.conf.beat_schedule)

    def sync(self) -> None:
        """Write the schedule down."""

    def schedule_changed(self) -> bool:
        """Return whether the schedule changed by other means."""
        return False

    def get_schedule(self) -> dict[str, Any]:
        """Return the entries by name."""
        return self.data

    def set_schedule(self, schedule: dict[str, Any]) -> None:
        """Take other entries."""
        self.data = schedule

    @property
    def schedule(self) -> dict[str, Any]:
        """The entries by name."""
        return self.get_schedule()

    @schedule.setter
    def schedule(self, schedule: dict[str, Any]) -> None:
        self.set_schedule(schedule)

    @property
    def info(self) -> str:
        """What is said of it at the start."""
        return ""

    def install_default_entries(self, data: Any) -> None:
        """Add entries of the scheduler's own; there are none: workers delete what expires."""

    # -- entries ----------------------------------------------------------------------------------

    def _maybe_entry(self, name: str, entry: Any) -> Any:
        if isinstance(entry, self.Entry):
            entry.app = self.app
            return entry
        return self.Entry(**{**dict(entry), "name": name, "app": self.app})

    def add(self, **parts: Any) -> Any:
        """Add an entry."""
        entry = self.Entry(app=self.app, **parts)
        self.schedule[str(entry.name)] = entry
        return entry

    def update_from_dict(self, dict_: Mapping[str, Any]) -> None:
        """Add entries; what is wrong is logged and left out."""
        for name, given in dict_.items():
            try:
                self.schedule[name] = self._maybe_entry(name, given)
            except (TypeError, ValueError, CeleryError) as error:
                logger.error("the entry %r is left out: %s", name, error)

    def merge_inplace(self, b: Mapping[str, Any]) -> None:
        """Make the entries those of `b`, and keep the times of the ones that stay."""
        former = dict(self.schedule)
        for name in set(former) - set(b):
            self.schedule.pop(name, None)
        self.update_from_dict(b)
        for name, old in former.items():
            new = self.schedule.get(name)
            if new is not None:
                new.last_run_at, new.total_run_count = old.last_run_at, old.total_run_count

    # -- sending ----------------------------------------------------------------------------------

    def is_due(self, entry: Any) -> Any:
        """Return whether an entry is due, and the seconds until it is again."""
        return entry.is_due()

    def reserve(self, entry: Any) -> Any:
        """Put an entry's next form in its place, and return it."""
        made = self.schedule[str(entry.name)] = next(entry)
        return made

    def apply_async(
        self, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any
    ) -> Any:
        """Send an entry's task.

        :raises SchedulingError: it could not be sent.
        """
        entry = self.reserve(entry) if advance else entry
        args = [v() if isinstance(v, BeatLazyFunc) else v for v in entry.args or ()]
        named = {k: v() if isinstance(v, BeatLazyFunc) else v for k, v in entry.kwargs.items()}
        try:
            task = self.app.tasks.get(entry.task)
            if task is not None:
                return task.apply_async(args, named, **entry.options)
            return self.send_task(entry.task, args, named, **entry.options)
        except Exception as error:
            raise SchedulingError(f"the entry {entry.name} cannot be sent: {error}") from error

    def send_task(self, *args: Any, **kwargs: Any) -> Any:
        """Send a task by its name."""
        return self.app.send_task(*args, **kwargs)

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Send an entry; an error is logged."""
        logger.info("Scheduler: Sending due task %s (%s)", entry.name, entry.task)
        try:
            self.apply_async(entry, producer=producer, advance=False)
        except Exception:
            logger.exception("a periodic task was not sent")

    def tick(self, **kwargs: Any) -> float:
        """Send what is due; return the seconds until there is more to do."""
        rest = self.max_interval
        for name, entry in list(self.schedule.items()):
            try:
                is_due, left = schedstate(*self.is_due(entry))
                if is_due:
                    following = self.reserve(entry)
                    self.apply_entry(entry)
                    left = self.is_due(following)[1]
            except Exception:  # a class of the user's may raise anything
                logger.exception("the entry %r failed", name)
                continue
            rest = min(rest, max(left, 0.0))
        self._maybe_sync()
        return rest

    def _maybe_sync(self) -> None:
        now = self.app.clock.monotonic()
        if self.sync_every and now - self._synced_at >= self.sync_every:
            self._synced_at = now
            self.sync()

    def close(self) -> None:
        """Write the schedule down, at the end."""
        self.sync()


class PersistentScheduler(Scheduler):
    """The name of Celery's default scheduler: as a setting it means celeriac's own beat."""
