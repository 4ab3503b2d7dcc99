"""What the documents show: every block of Python compiles, and the quick start does what it says."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PAGES = sorted(
    page for page in [*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")] if page.is_file()
)
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    """Return a page's fenced blocks of one language, unindented."""
    return [textwrap.dedent(m[3]) for m in FENCE.finditer(page.read_text()) if m[2] == language]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(PROJECT).as_posix())
def test_python_blocks_compile(page: Path) -> None:
    for block in blocks(page, "python"):
        ast.parse(block, page.name)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(PROJECT).as_posix())
def test_every_fence_is_closed(page: Path) -> None:
    fences = [line for line in page.read_text().splitlines() if line.lstrip().startswith("```")]
    assert len(fences) % 2 == 0


def test_quick_start(tmp_path: Path) -> None:
    readme = PROJECT / "README.md"
    (tmp_path / "tasks.py").write_text(blocks(readme, "python")[0])
    command = next(
        line.removeprefix("$ ")
        for block in blocks(readme, "console")
        for line in block.splitlines()
        if " worker" in line
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "PATH": _path()}
    log = tmp_path / "worker.log"
    with log.open("w") as out:
        worker = subprocess.Popen(
            command.split(), cwd=tmp_path, env=env, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        session = tmp_path / "session.txt"
        session.write_text(blocks(readme, "pycon")[0])
        shown = subprocess.run(
            [sys.executable, "-m", "doctest", str(session)],
            cwd=tmp_path,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert shown.returncode == 0, f"{shown.stdout}{shown.stderr}\n{log.read_text()}"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0, log.read_text()
    finally:
        worker.kill()
        worker.wait()
    lines = log.read_text()
    assert "ready." in lines
    assert re.search(r"Task tasks\.add\[[0-9a-f-]{36}\] received", lines)
    assert re.search(r"Task tasks\.add\[[0-9a-f-]{36}\] succeeded in [\d.e-]+s: 5", lines)


def _path() -> str:
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
