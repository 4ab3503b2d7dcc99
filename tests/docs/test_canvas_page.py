"""The page about workflows says what happens: its blocks are run, in order, before a worker in memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from celeriac.testing import TaskKit

PAGE = Path(__file__).parents[2] / "docs" / "canvas.md"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_block_does_what_it_says() -> None:
    first, *others = re.findall(
        r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE
    )
    scope: dict[str, Any] = {"__name__": "shop"}
    exec(compile(first, PAGE.name, "exec"), scope)
    assert len(others) >= 8
    with TaskKit(scope["app"]):
        for block in others:
            exec(compile(block, PAGE.name, "exec"), scope)
