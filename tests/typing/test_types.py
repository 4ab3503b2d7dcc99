"""What a type checker says of a user's program, line by line."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "program.py"
LINE = re.compile(r"^(.*?):(\d+): (error|note): (.*)$")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[str]]:
    """What mypy says of each line, in strict mode."""
    pytest.importorskip("mypy")
    config = tmp_path_factory.mktemp("mypy") / "mypy.ini"
    config.write_text("[mypy]\nstrict = True\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file", str(config), "--no-error-summary"),
            *("--hide-error-context", "--cache-dir", str(config.parent / "cache"), str(PROGRAM)),
        ],
        cwd=config.parent,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert not done.stderr, done.stderr
    found: dict[int, list[str]] = defaultdict(list)
    for line in done.stdout.splitlines():
        match = LINE.match(line)
        assert match, line
        assert match[1].endswith(PROGRAM.name), line
        found[int(match[2])].append(f"{match[3]}: {match[4]}")
    return found


def test_each_line(said: dict[int, list[str]]) -> None:
    wrong = []
    for number, line in enumerate(PROGRAM.read_text().splitlines(), 1):
        _, _, error = line.partition("  # E: ")
        _, _, revealed = line.partition("  # R: ")
        spoken = said.get(number, [])
        if error:
            right = any(text.startswith("error: ") and error in text for text in spoken)
        elif revealed:
            want = f'Revealed type is "{revealed}"'
            right = [plain(text) for text in spoken] == [f"note: {want}"]
        else:
            right = not spoken
        if not right:
            wrong.append(f"{number}: {line.strip()}\n      mypy: {spoken}")
    assert not wrong, "\n".join(wrong)


def plain(text: str) -> str:
    """Return what mypy said without the decorations that differ between its versions."""
    return text.replace("builtins.", "")
