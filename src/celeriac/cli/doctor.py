"""`celeriac doctor`: what may be wrong, and what to change.

Owns: the command, Finding.  May import: everything.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import click

from celeriac.cli.output import json_option, print_json
from celeriac.cli.session import Command, Session, pass_session, say
from celeriac.kernel.errors import CeleryError
from celeriac.kernel.settings import BY_NAME

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

Verdict = Literal["ok", "warn", "fail"]
BACKLOG = 60.0
"""Seconds that a task may have waited before the doctor says so."""

_COLORS = {"ok": "green", "warn": "yellow", "fail": "red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    verdict: Verdict
    what: str
    says: str
    advice: str = ""
    """What to change."""


Findings = Iterator[Finding]


def ok(what: str, says: str) -> Finding:
    """Return a finding that all is well."""
    return Finding("ok", what, says)


def warn(what: str, says: str, advice: str = "") -> Finding:
    """Return a finding that a person should know of."""
    return Finding("warn", what, says, advice)


def fail(what: str, says: str, advice: str = "") -> Finding:
    """Return a finding that keeps tasks from running."""
    return Finding("fail", what, says, advice)


@click.command(cls=Command)
@json_option
@pass_session
def doctor(session: Session, as_json: bool) -> int:
    """Check app, settings, broker, store, clock and workers; say what to change.

    Exits with 1 where something is wrong.
    """
    findings = []
    for finding in examine(session):
        findings.append(finding)
        if not as_json:
            _print(finding, session.color)
    if as_json:
        print_json(
            [
                {"verdict": f.verdict, "what": f.what, "says": f.says, "advice": f.advice}
                for f in findings
            ]
        )
    return 1 if any(finding.verdict == "fail" for finding in findings) else 0


def _print(finding: Finding, color: bool) -> None:
    mark = f"{finding.verdict:<4}"
    if color and sys.stdout.isatty():
        mark = click.style(mark, fg=_COLORS[finding.verdict])
    say(f"{mark}  {finding.what}: {finding.says}")
    if finding.advice:
        say(f"      -> {finding.advice}")


def examine(session: Session) -> Findings:
    """Run every check whose ground the former ones laid."""
    yield ok("python", f"{sys.version.split()[0]} at {sys.executable}")
    try:
        app = session.app(tasks=False)
    except click.ClickException as error:
        yield fail("app", error.format_message(), "start where the app is, or use --workdir")
        return
    settings_good = True
    for finding in _guarded("settings", lambda: check_settings(app)):
        settings_good = settings_good and finding.verdict != "fail"
        yield finding
    if not settings_good:
        return
    if session.bare:
        yield warn("app", "none is named", "name it: celeriac -A proj doctor")
        if not app.conf.broker_url:
            return
    else:
        yield from _guarded("app", lambda: check_app(app))
    reached = True
    for finding in _guarded("broker", lambda: check_broker(app)):
        reached = reached and finding.verdict != "fail"
        yield finding
    yield from _guarded("results", lambda: check_results(app))
    yield from _guarded("clock", lambda: check_clock(app))
    if not reached:
        return
    if app.broker_url.startswith("sqlite"):
        from celeriac.cli.sqlite_health import check_file

        yield from _guarded("file", lambda: check_file(app))
    from celeriac.cli.redis_health import check_server, servers

    for url in servers(app):
        yield from _guarded("redis", partial(check_server, app, url))
    yield from _guarded("queues", lambda: check_queues(app))
    from celeriac.cli.schedule_health import check_paused, check_schedule

    yield from _guarded("paused", lambda: check_paused(app))
    yield from _guarded("schedule", lambda: check_schedule(app))
    yield from _guarded("workers", lambda: check_workers(app))
    yield from _guarded("promise", lambda: promise(app))


def _guarded(what: str, check: Callable[[], Findings]) -> Findings:
    """Turn what a check raises into a finding: a doctor that faints helps nobody."""
    try:
        yield from check()
    except CeleryError as error:
        yield fail(what, str(error))
    except Exception as error:
        # Foreign code: the user's modules, a driver of a third party.
        yield fail(what, f"{type(error).__name__}: {error}")


def check_app(app: Celeriac) -> Findings:
    """Check that the app's modules can be imported and have tasks."""
    app.import_modules()
    count = len(app.tasks.regular())
    if count:
        yield ok("app", f"{app.main or '__main__'} with {count} tasks")
    else:
        yield warn(
            "app",
            f"{app.main or '__main__'} has no tasks",
            "name their modules: Celeriac(..., include=['proj.tasks']) or autodiscover_tasks()",
        )


def check_settings(app: Celeriac) -> Findings:
    """Check that the settings can be read, and what they say of themselves."""
    conf = app.conf
    _ = app.timezone, app.router
    useless = [
        (name, setting.ignored)
        for name, setting in BY_NAME.items()
        if setting.ignored and conf.origin(name) != "default"
    ]
    for name, why in useless:
        yield warn("settings", f"{name} has no effect: {why}", "it may be left out")
    if not useless:
        yield ok("settings", "every one is known and has a meaning")


def check_broker(app: Celeriac) -> Findings:
    """Check that the broker answers, and show what it can do."""
    from celeriac.cli.banner import shown_url

    url = shown_url(app.broker_url)
    began = time.perf_counter()
    broker = app.broker
    broker.count([])
    took = (time.perf_counter() - began) * 1000
    yield ok("broker", f"{url} answers in {took:.1f} ms")
    yield ok("broker can", capabilities(broker.caps))


def capabilities(caps: Any) -> str:
    """Return a driver's row of the table of capabilities, as one line."""
    words = []
    for name in type(caps).__dataclass_fields__:
        value = getattr(caps, name)
        if isinstance(value, frozenset):
            value = ", ".join(sorted(value)) or "nothing"
        elif isinstance(value, bool):
            value = "yes" if value else "no"
        elif value is None:
            value = "unbounded"
        words.append(f"{name}={value}")
    return " ".join(words)


def check_results(app: Celeriac) -> Findings:
    """Check that the store can be written, read and cleared."""
    from celeriac import uuid
    from celeriac.cli.banner import shown_url
    from celeriac.kernel.message import Record

    if not app.keeps_results:
        yield warn("results", "none are kept", "set result_backend where callers need results")
        return
    store = app.results
    probe = f"celeriac-doctor-{uuid()}"
    store.store([Record(probe, "DOCTOR", None, expires_at=time.time() + 60)])
    read = store.fetch([probe])
    store.forget([probe])
    url = shown_url(app.backend_url)
    if probe in read:
        yield ok("results", f"{url} can be written and read")
    else:
        yield fail("results", f"{url} does not give back what was stored", "see the store's log")


def check_clock(app: Celeriac) -> Findings:
    """Check that the clock can be right: a task's time is compared with that of other machines."""
    now = time.time()
    if now < 1_735_689_600:  # 2025: the machine started without a clock
        yield fail("clock", f"it says {time.ctime(now)}", "set it; run NTP")
        return
    yield ok("clock", f"{app.now().isoformat(timespec='seconds')} ({app.timezone})")


def check_queues(app: Celeriac) -> Findings:
    """Check for what waits too long, and for what is buried."""
    counts = app.broker.count([])
    waiting = sum(count.ready for count in counts.values())
    oldest = max((count.oldest for count in counts.values()), default=0.0)
    says = f"{waiting} ready in {len(counts)} queues"
    if oldest > BACKLOG:
        slow = max(counts, key=lambda name: counts[name].oldest)
        yield warn(
            "queues",
            f"{says}; the oldest, in {slow!r}, has waited {oldest:.0f} s",
            f"is a worker consuming {slow!r}? more of them, or a higher -c",
        )
    else:
        yield ok("queues", says)
    if app.broker.buried(limit=1):
        yield warn("buried", "there are buried tasks", "look at them: celeriac buried list")


def check_workers(app: Celeriac) -> Findings:
    """Check that somebody works."""
    nodes = [node for answer in app.control.ping(timeout=1.0) for node in answer]
    if nodes:
        yield ok("workers", ", ".join(sorted(nodes)))
    else:
        yield warn("workers", "none answers", "start one: celeriac -A proj worker -l INFO")


def promise(app: Celeriac) -> Findings:
    """Say in one sentence what becomes of an accepted task."""
    conf = app.conf
    if not conf.task_acks_late:
        yield warn(
            "promise",
            "a task runs at most once: one that its worker dies under is lost (task_acks_late is off)",
        )
        return
    together = app.keeps_results and app.results.name in app.broker.caps.settles_with
    how = (
        "its result and its end are written together"
        if together
        else "its result is written before its end, so a crash may repeat it"
    )
    yield ok(
        "promise",
        f"an accepted task runs at least once, and is buried after {conf.task_max_deliveries}"
        f" deliveries without an outcome; {how}",
    )
