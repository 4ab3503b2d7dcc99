"""What `celeriac doctor` says of the schedule, of beat, and of queues that are paused.

Owns: check_schedule, check_paused.  May import: everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from celeriac.cli.doctor import Finding, ok, warn

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

LATE = 5.0
"""Seconds that a tick may be late before the doctor says so: a beat sends within a few milliseconds."""


def check_schedule(app: Celeriac) -> Iterator[Finding]:
    """Check that every entry can be read and is stored, and that some beat sends them in time."""
    from celeriac.beat.entries import read_entries
    from celeriac.beat.service import place_of, scope_of, store_of

    written, wrong = read_entries(app)
    store, _ = store_of(app)
    entries = store.entries(scope_of(app))
    for why in wrong:
        yield warn("schedule", f"an entry is left out: {why}", "correct it in beat_schedule")
    if not entries and not written:
        yield ok("schedule", "no entries")
        return
    paused = sum(entry.paused for entry in entries)
    says = f"{len(entries)} entries in {place_of(app)}" + (f", {paused} paused" if paused else "")
    yield ok("schedule", says)
    new = sorted(set(written) - {entry.name for entry in entries})
    if new:
        yield warn(
            "beat",
            f"none has run since the program has {', '.join(new[:5])}",
            "start one, or restart it: celeriac -A proj beat, or worker -B",
        )
        return
    now = store.time()
    due = [(entry.next_at, entry.name) for entry in entries if entry.next_at and not entry.paused]
    late = [(now - at, name) for at, name in due if now - at > LATE]
    if late:
        longest, name = max(late)
        yield warn(
            "beat",
            f"{len(late)} entries are late; {name} by {longest:.0f} s",
            "is a beat running? celeriac -A proj beat, or worker -B",
        )
    elif due:
        yield ok(
            "beat", f"nothing is late; the next tick comes in {max(0.0, min(due)[0] - now):.0f} s"
        )


def check_paused(app: Celeriac) -> Iterator[Finding]:
    """Tell which queues no worker takes tasks from, by order."""
    for queue in app.control.paused():
        yield warn(
            "paused",
            f"no worker takes tasks from {queue}",
            f"when it may go on: celeriac -A proj control resume {queue}",
        )
