"""What the doctor says of the schedule, of beat, and of paused queues."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.beat.service import scope_of, store_of, ticker_of
from celeriac.cli.schedule_health import check_paused, check_schedule
from celeriac.drivers.memory import MemoryFamily


def said(app: Celeriac) -> list[tuple[str, str, str]]:
    return [(f.verdict, f.what, f.says) for f in check_schedule(app)]


def test_the_schedule_and_its_beat(app: Celeriac, caplog: pytest.LogCaptureFixture) -> None:
    with app.standing_in(MemoryFamily("memory://doctor", {"private": True})):
        assert said(app) == [("ok", "schedule", "no entries")]
        app.conf.beat_schedule = {
            "good": {"task": "t", "schedule": 3600.0},
            "bad": {"task": "t", "schedule": "never"},
        }
        with caplog.at_level(logging.WARNING, logger="celeriac.beat"):
            wrong, _, none = said(app)
        assert (wrong[:2], "bad" in wrong[2]) == (("warn", "schedule"), True)
        assert "bad" not in caplog.text, "the finding says it: once"
        assert none == ("warn", "beat", "none has run since the program has good")
        ticker_of(app).sync()
        _, stored, fine = said(app)
        assert stored[0] == "ok"
        assert stored[2].startswith("1 entries in ")
        assert fine[:2] == ("ok", "beat")
        store: Any = store_of(app)[0]
        (entry,) = store.entries(scope_of(app))
        assert store.put(scope_of(app), [replace(entry, next_at=store.time() - 100)]) == []
        late = said(app)[-1]
        assert late[0] == "warn"
        assert "good by 100 s" in late[2]


def test_a_paused_queue(app: Celeriac) -> None:
    with app.standing_in(MemoryFamily("memory://paused", {"private": True})):
        assert list(check_paused(app)) == []
        app.control.pause("mail")
        (found,) = check_paused(app)
        assert (found.verdict, "mail" in found.says) == ("warn", True)
        assert "control resume mail" in found.advice
        app.control.resume("mail")
        assert list(check_paused(app)) == []
