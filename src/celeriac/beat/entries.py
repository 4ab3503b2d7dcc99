"""What runs when: an entry of `beat_schedule` or of the store, checked, and its stored form.

Owns: Item, read_entry, read_entries, read_settings, BeatLazyFunc.  May import: kernel, ports, client.
"""

from __future__ import annotations

import copy
import datetime as dt
import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast
from zoneinfo import ZoneInfo

from celeriac.kernel.crontab import ParseException
from celeriac.kernel.errors import CeleryError, ImproperlyConfigured
from celeriac.kernel.schedules import (
    Schedule,
    clocked,
    cron,
    crontab,
    maybe_schedule,
    schedule,
    zone_of,
)
from celeriac.kernel.solar import solar
from celeriac.ports.registry import find_codec

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

logger = logging.getLogger("celeriac.beat")

Misfire = Literal["skip", "once", "all"]
MISFIRES = ("skip", "once", "all")
GRACE = 60.0
"""Seconds that a tick may be late and still runs where missed ones are skipped."""

KEYS = frozenset("task schedule args kwargs options relative misfire grace timezone".split())


class BeatLazyFunc:
    """An argument that is made anew for every tick: `BeatLazyFunc(function, *args, **kwargs)`."""

    def __init__(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._func = func
        self._func_params = {"args": args, "kwargs": kwargs}

    def __call__(self) -> Any:
        """Return what the argument is this time."""
        return self.delay()

    def delay(self) -> Any:
        """Return what the argument is this time."""
        args = cast("tuple[Any, ...]", self._func_params["args"])
        kwargs = cast("dict[str, Any]", self._func_params["kwargs"])
        return self._func(*args, **kwargs)


@dataclass(frozen=True, slots=True)
class Item:
    """An entry that can be run."""

    name: str
    task: str
    schedule: Schedule
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    misfire: Misfire = "once"
    grace: float = GRACE

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of one run, lazy ones made."""
        args = tuple(v() if isinstance(v, BeatLazyFunc) else v for v in self.args)
        kwargs = {k: v() if isinstance(v, BeatLazyFunc) else v for k, v in self.kwargs.items()}
        return args, kwargs


def read_entry(app: Celeriac, name: str, given: Any) -> Item:
    """Return what an entry of `beat_schedule` says.

    :raises ImproperlyConfigured: a part of it is wrong; the message names entry and part.
    """
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured(f"the entry {name!r} must be a mapping, not {given!r:.100}")
    unknown = [str(key) for key in given if key not in KEYS]
    if unknown:
        raise ImproperlyConfigured(
            f"the entry {name!r} has no part {', '.join(unknown)}: known are {', '.join(sorted(KEYS))}"
        )
    task: Any = given.get("task")
    task = getattr(task, "name", None) or task
    if not isinstance(task, str) or not task:
        raise ImproperlyConfigured(f"the entry {name!r} must name its task, not {task!r:.100}")
    try:
        found = maybe_schedule(given.get("schedule"), bool(given.get("relative")), app=app)
        if given.get("timezone") is not None:
            found = copy.copy(found)  # another entry may share it
            found.timezone = zone_of(given["timezone"])
        if not found.asked and found.next_after(app.clock.time()) is None:
            raise ParseException("it never comes")
    except (ParseException, TypeError, ValueError, OverflowError) as error:
        raise ImproperlyConfigured(f"the schedule of the entry {name!r}: {error}") from error
    args, kwargs, options = (given.get(k) for k in ("args", "kwargs", "options"))
    if isinstance(args, str) or not isinstance(args or (), (list, tuple)):
        raise ImproperlyConfigured(f"args of the entry {name!r} must be a list, not {args!r:.100}")
    for key, value in (("kwargs", kwargs), ("options", options)):
        if not isinstance(value or {}, Mapping):
            raise ImproperlyConfigured(
                f"{key} of the entry {name!r} must be a mapping, not {value!r:.100}"
            )
    misfire, grace = _misfire(app, name, given, found)
    return Item(
        name,
        task,
        found,
        tuple(args or ()),
        dict(kwargs or {}),
        dict(options or {}),
        misfire,
        grace,
    )


def _misfire(
    app: Celeriac, name: str, given: Mapping[str, Any], found: Schedule
) -> tuple[Misfire, float]:
    misfire, grace = given.get("misfire"), given.get("grace")
    deadline = app.conf.beat_cron_starting_deadline
    if misfire is None and deadline and isinstance(found, (crontab, cron)):
        misfire, grace = "skip", deadline if grace is None else grace
    misfire = misfire or "once"
    if misfire not in MISFIRES:
        raise ImproperlyConfigured(
            f"misfire of the entry {name!r} cannot be {misfire!r:.100}: skip, once or all"
        )
    if isinstance(grace, dt.timedelta):
        grace = grace.total_seconds()
    if grace is not None and (isinstance(grace, bool) or not isinstance(grace, (int, float))):
        raise ImproperlyConfigured(f"grace of the entry {name!r} is seconds, not {grace!r:.100}")
    return cast("Misfire", misfire), GRACE if grace is None else float(grace)


def read_entries(app: Celeriac) -> tuple[dict[str, Item], list[CeleryError]]:
    """Return the entries of `beat_schedule`, and what is wrong with those that are left out."""
    found, wrong = {}, []
    for name, given in app.conf.beat_schedule.items():
        try:
            found[str(name)] = read_entry(app, str(name), given)
        except CeleryError as error:
            wrong.append(error)
    return found, wrong


def read_settings(app: Celeriac) -> dict[str, Item]:
    """Return the entries of `beat_schedule`; what is wrong is logged and left out."""
    found, wrong = read_entries(app)
    for error in wrong:
        logger.error("an entry is left out: %s", error)
    return found


# -- the stored form --------------------------------------------------------------------------------


def encode(item: Item, app: Celeriac, *, from_code: bool = False) -> bytes:
    """Return the stored form of an item.

    :raises ImproperlyConfigured: it holds what only a program can hold, and is not from code.
    """
    form: dict[str, Any] = {
        "task": item.task,
        "schedule": _schedule_form(item.schedule, app if from_code else None),
        "args": item.args,
        "kwargs": item.kwargs,
        "options": item.options,
        "misfire": item.misfire,
        "grace": item.grace,
    }
    codec = find_codec("json")
    local = "own" in form["schedule"]
    try:
        data = codec.dumps(form)
    except (CeleryError, TypeError, ValueError) as error:
        if not from_code:
            raise ImproperlyConfigured(
                f"the entry {item.name!r} cannot be stored: {error}; such arguments can only stand "
                "in beat_schedule"
            ) from error
        local = True
        shown = {key: repr(form[key]) for key in ("args", "kwargs", "options")}
        form = {**form, "args": [], "kwargs": {}, "options": {}}
        data = codec.dumps({**form, "shown": shown})
    if not from_code:
        if local:
            raise ImproperlyConfigured(
                f"the schedule of the entry {item.name!r} is a class of your own: such an entry can "
                "only stand in beat_schedule"
            )
        return data
    digest = hashlib.sha256(data).hexdigest()[:16]
    return codec.dumps({**form, "code": digest, "local": local})


def code_of(spec: bytes) -> tuple[Any, Any]:
    """Return the digest of the program's own form of an entry, and the form of its schedule."""
    form = find_codec("json").loads(spec)
    return form.get("code"), form.get("schedule")


def edited(spec: bytes, former: bytes) -> bytes:
    """Return a new form of an entry that knows which of the program's forms it was made from."""
    codec = find_codec("json")
    digest = codec.loads(former).get("code")
    return codec.dumps({**codec.loads(spec), "code": digest}) if digest else spec


def decode(name: str, spec: bytes, app: Celeriac) -> Item:
    """Return the item of a stored form.

    :raises ImproperlyConfigured: it cannot be read here.
    """
    try:
        form = find_codec("json").loads(spec)
        if form.get("local"):
            raise ImproperlyConfigured("only the program that it is written in can run it")
        found = _schedule_of(form["schedule"], app)
        return Item(
            name,
            form["task"],
            found,
            tuple(form["args"]),
            dict(form["kwargs"]),
            dict(form["options"]),
            form["misfire"],
            float(form["grace"]),
        )
    except (CeleryError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ImproperlyConfigured(f"the entry {name!r} cannot be run: {error}") from error


def _schedule_form(found: Schedule, app: Celeriac | None) -> dict[str, Any]:
    """Return the form of a schedule.

    :param app: whose time zone is written down, so that a change of it is noticed.
    """
    zone = found.timezone if found.timezone is not None else app and app.timezone
    where = {} if zone is None else {"timezone": str(zone)}
    if zone is not None and not isinstance(zone, ZoneInfo) and zone is not dt.UTC:
        return {"own": f"{type(found).__name__} in {zone}", "repr": repr(found)}
    if type(found) is schedule:
        relative = {"relative": True, **where} if found.relative else {}
        return {"every": found.run_every.total_seconds(), **relative}
    if type(found) is crontab:
        fields = {
            key: value if isinstance(value, (str, int)) else sorted(value)
            for key, value in found.fields.items()
        }
        return {"crontab": fields, **where}
    if type(found) is cron:
        return {"cron": found.expression, **where}
    if type(found) is solar:
        return {"solar": [found.event, found.lat, found.lon]}
    if type(found) is clocked:
        return {"clocked": found.next_after(float("-inf"))}
    kind = type(found)
    shown = repr(found) if kind.__repr__ is not object.__repr__ else ""
    return {"own": f"{kind.__module__}.{kind.__qualname__}", "repr": shown, **where}


def _schedule_of(form: Mapping[str, Any], app: Celeriac) -> Schedule:
    zone = form.get("timezone")
    if "every" in form:
        return schedule(form["every"], bool(form.get("relative")), app=app, timezone=zone)
    if "crontab" in form:
        return crontab(**form["crontab"], app=app, timezone=zone)
    if "cron" in form:
        return cron(form["cron"], app=app, timezone=zone)
    if "solar" in form:
        event, lat, lon = form["solar"]
        return solar(event, lat, lon, app=app)
    if "clocked" in form:
        return clocked(dt.datetime.fromtimestamp(form["clocked"], dt.UTC), app=app)
    raise ParseException(f"its schedule is of a kind that is not known here: {form!r:.100}")


def shown_schedule(spec: bytes) -> str:
    """Return an entry's schedule for people."""
    form = find_codec("json").loads(spec)["schedule"]
    zone = f" {form['timezone']}" if form.get("timezone") else ""
    if "every" in form:
        return f"every {form['every']:g} s{' relative' if form.get('relative') else ''}"
    if "crontab" in form:
        fields = form["crontab"]
        names = "minute hour day_of_month month_of_year day_of_week".split()
        words = (fields[name] for name in names)
        return (
            " ".join(",".join(map(str, w)) if isinstance(w, list) else str(w) for w in words) + zone
        )
    if "cron" in form:
        return f"{form['cron']}{zone}"
    if "solar" in form:
        event, lat, lon = form["solar"]
        return f"{event} at {lat}, {lon}"
    if "clocked" in form:
        at = dt.datetime.fromtimestamp(form["clocked"], dt.UTC)
        return f"once at {at.isoformat(sep=' ', timespec='seconds')}"
    return str(form.get("repr") or form.get("own"))
