"""What the tests themselves stand on: files are parsed whatever the collector ends meanwhile."""

from __future__ import annotations

import ast
import traceback
from pathlib import Path

from tests.support.source import parsed


class PrintsATraceback:
    """What Celery's results do where their server has ended."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        try:
            _ = (1 / 0) + 1
        except ZeroDivisionError:
            traceback.format_exc()


def test_a_parse_stands_objects_that_print_tracebacks_at_their_end() -> None:
    source = Path(ast.__file__)
    for _ in range(10):
        for _ in range(20):
            PrintsATraceback()
        parsed.cache_clear()
        assert parsed(source).body
    assert parsed(source) is parsed(source)
