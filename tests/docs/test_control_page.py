"""The page on remote control: names every command that there is, and its own commands work."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.docs.test_documents import blocks

import celeriac.control.inbox  # noqa: F401 - fills the panel
from celeriac import Celeriac
from celeriac.client.panel import PANEL
from celeriac.testing.running import running_worker

PAGE = Path(__file__).parents[2] / "docs" / "control.md"


def test_every_command_is_there() -> None:
    words = set(re.findall(r"\w+", PAGE.read_text()))
    own = [one for one in PANEL.values() if one.run.__module__.startswith("celeriac.control")]
    assert not {command.name for command in own} - words
    assert len({command.name for command in own}) >= 35


def test_the_commands_of_the_page_work() -> None:
    space: dict[str, Any] = {}
    exec(blocks(PAGE, "python")[1], space)
    app = Celeriac("proj", set_as_current=False)

    @app.task(name="proj.mail")
    def mail() -> None: ...

    with running_worker(app, hostname="w1@here"):
        inspect = app.control.inspect(timeout=5.0, limit=1)
        assert inspect.request("known", prefix="proj.") == {"w1@here": ["proj.mail"]}
        assert app.control.broadcast("flush_cache", reply=True, timeout=5.0, limit=1) == [
            {"w1@here": {"ok": "flushed on w1@here"}}
        ]
        exec(blocks(PAGE, "python")[0].replace("sqlite:///tasks.db", "memory://page"), space)
