"""Entries changed at run time: `app.schedules`, seen by every running beat within a second.

Owns: Schedules, Scheduled.  Thread rule: any thread.  May import: kernel, ports, client, beat.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from celeriac.beat.entries import Item, decode, edited, encode, read_entry, shown_schedule
from celeriac.beat.service import TOPIC, scope_of, store_of
from celeriac.beat.ticker import first_tick
from celeriac.kernel.errors import AlreadyRegistered, CeleryError, NotRegistered
from celeriac.ports.registry import find_codec
from celeriac.ports.schedules import Entry, ScheduleStore

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

logger = logging.getLogger("celeriac.beat")


@dataclass(frozen=True, slots=True)
class Scheduled:
    """What is known of an entry."""

    name: str
    task: str
    schedule: str
    """In words."""
    next_at: dt.datetime | None
    last_at: dt.datetime | None
    runs: int
    paused: bool
    from_code: bool
    args: Any
    kwargs: Any
    options: Any
    misfire: str


class Schedules:
    """The entries of an app's schedule.

    >>> app.schedules.add("report", task="proj.report", schedule=crontab(hour=6))  # doctest: +SKIP
    >>> app.schedules.pause("report")  # doctest: +SKIP

    :param file: the file of the entries, where they are not in the broker's own store.
    """

    def __init__(self, app: Celeriac, file: str | None = None) -> None:
        self._app, self._file = app, file
        self._scope = scope_of(app)

    @property
    def _store(self) -> ScheduleStore:
        return store_of(self._app, self._file)[0]

    def _changed(self) -> None:
        try:
            self._app.bus.send(TOPIC, [self._scope.encode()])
        except CeleryError as error:
            logger.warning("running beats were not told of the change: %s", error)

    # -- looking --------------------------------------------------------------------------------

    def list(self) -> list[Scheduled]:
        """Return the entries in order of their names, as far as a beat has stored them."""
        return [self._shown(entry) for entry in self._store.entries(self._scope)]

    def get(self, name: str) -> Scheduled:
        """Return one entry.

        :raises NotRegistered: there is none of that name.
        """
        return self._shown(self._entry(name))

    def __iter__(self) -> Iterator[Scheduled]:
        return iter(self.list())

    def __contains__(self, name: object) -> bool:
        return bool(self._store.entries(self._scope, [str(name)]))

    def _entry(self, name: str) -> Entry:
        found = self._store.entries(self._scope, [name])
        if not found:
            raise NotRegistered(
                f"no entry is called {name!r} (a running beat stores those of beat_schedule)"
            )
        return found[0]

    def _shown(self, entry: Entry) -> Scheduled:
        form = find_codec("json").loads(entry.spec)
        shown = form.get("shown", form)
        return Scheduled(
            name=entry.name,
            task=form["task"],
            schedule=shown_schedule(entry.spec),
            next_at=self._moment(entry.next_at),
            last_at=self._moment(entry.last_at or None),
            runs=entry.runs,
            paused=entry.paused,
            from_code=entry.from_code,
            args=shown["args"],
            kwargs=shown["kwargs"],
            options=shown["options"],
            misfire=form["misfire"],
        )

    def _moment(self, instant: float | None) -> dt.datetime | None:
        return None if instant is None else dt.datetime.fromtimestamp(instant, self._app.timezone)

    # -- changing -------------------------------------------------------------------------------

    def add(self, name: str, *, replace: bool = False, **parts: Any) -> Scheduled:
        """Add an entry.

        :param replace: take the place of an entry of that name, if there is one.
        :param parts: `task` and `schedule`; `args`, `kwargs`, `options`, `misfire`, `grace`,
            `timezone`, `relative`: as in `beat_schedule`.
        :raises AlreadyRegistered: there is one of that name.
        :raises ImproperlyConfigured: a part is wrong.
        """
        app = self._app
        item = read_entry(app, name, parts)
        new = Entry(name, encode(item, app), first_tick(item, app.clock.time()))
        while self._store.put(self._scope, [new]):
            if not replace:
                raise AlreadyRegistered(f"there is an entry {name!r}: change it, or remove it")
            self._store.remove(self._scope, [name])
        self._changed()
        return self.get(name)

    def change(self, name: str, **parts: Any) -> Scheduled:
        """Change parts of an entry.

        One of the program's own stays changed until the program itself has another form of it.

        :param parts: as in `add`.
        :raises NotRegistered: there is none of that name.
        :raises ImproperlyConfigured: a part is wrong.
        """
        app = self._app

        def work(entry: Entry) -> Entry:
            old = decode(name, entry.spec, app)
            item = read_entry(app, name, {**_parts(old), **parts})
            spec = edited(encode(item, app), entry.spec)
            next_at = entry.next_at
            if {"schedule", "timezone", "relative"} & parts.keys() and not entry.paused:
                next_at = first_tick(item, app.clock.time())
            return replace(entry, spec=spec, next_at=next_at)

        return self._edit(name, work)

    def pause(self, name: str) -> Scheduled:
        """Let no tick of an entry come until it is resumed.

        :raises NotRegistered: there is none of that name.
        """
        return self._edit(name, lambda entry: replace(entry, paused=True, next_at=None))

    def resume(self, name: str) -> Scheduled:
        """Let a paused entry go on with the next tick of its schedule; none is made up for.

        :raises NotRegistered: there is none of that name.
        """

        def work(entry: Entry) -> Entry:
            if not entry.paused:
                return entry
            next_at = first_tick(self._item(entry), self._app.clock.time())
            return replace(entry, paused=False, next_at=next_at)

        return self._edit(name, work)

    def remove(self, name: str) -> None:
        """Delete an entry; one of the program's own comes back at beat's next start.

        :raises NotRegistered: there is none of that name.
        """
        if not self._store.remove(self._scope, [name]):
            self._entry(name)
        self._changed()

    def run(self, name: str) -> Any:
        """Send the task of an entry now, beside its ticks; return its result.

        :raises NotRegistered: there is none of that name.
        """
        item = self._item(self._entry(name))
        args, kwargs = item.arguments()
        headers = {**(item.options.get("headers") or {}), "periodic_task_name": name}
        options = {**item.options, "headers": headers}
        task = self._app.tasks.get(item.task)
        if task is not None:
            return task.apply_async(args, kwargs, **options)
        return self._app.send_task(item.task, args, kwargs, **options)

    def _item(self, entry: Entry) -> Item:
        """Return an entry's item, the program's own where it has one."""
        app = self._app
        app.import_modules()
        given = app.conf.beat_schedule.get(entry.name)
        if given is not None:
            item = read_entry(app, entry.name, given)
            if encode(item, app, from_code=True) == entry.spec:
                return item
        return decode(entry.name, entry.spec, app)

    def _edit(self, name: str, work: Callable[[Entry], Entry]) -> Scheduled:
        while True:  # until nobody else, such as a tick, was faster
            if not self._store.put(self._scope, [work(self._entry(name))]):
                break
        self._changed()
        return self.get(name)


def _parts(item: Item) -> Mapping[str, Any]:
    return {
        "task": item.task,
        "schedule": item.schedule,
        "args": item.args,
        "kwargs": item.kwargs,
        "options": item.options,
        "misfire": item.misfire,
        "grace": item.grace,
    }
