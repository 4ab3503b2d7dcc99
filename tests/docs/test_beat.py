"""The page on periodic tasks, run from its first block to its last."""

from __future__ import annotations

from pathlib import Path

from tests.docs.test_tutorial import BLOCK, Reader

PAGE = Path(__file__).parents[2] / "docs" / "beat.md"


def test_the_page(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    blocks = BLOCK.findall(PAGE.read_text())
    assert len(blocks) == 4
    for language, block in blocks:
        getattr(reader, language)(block)
