"""The pages on Django, Flask and FastAPI: their files are written, their workers run, their blocks hold."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.project import Process

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    ("page", "app"), [("django", "shop"), ("flask", "shop:celery_app"), ("fastapi", "shop")]
)
def test_the_page(tmp_path: Path, page: str, app: str) -> None:
    program: list[str] = []
    worker: Process | None = None
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    commands = []
    for language, block in BLOCK.findall((DOCS / f"{page}.md").read_text()):
        named = re.match(r"# (\S+\.py)\n", block)
        if language == "console":
            commands += [line[2:] for line in block.splitlines() if line.startswith("$ ")]
        elif named:
            file = tmp_path / named[1]
            file.parent.mkdir(exist_ok=True)
            file.write_text(block)
        else:
            program.append(block)
    assert program
    for command in commands:
        subprocess.run(command, shell=True, cwd=tmp_path, env=env, check=True, timeout=60)
    log = tmp_path / "worker.log"
    command = [sys.executable, "-m", "celeriac", "-A", app, "worker", "-l", "INFO", "-c", "1"]
    with log.open("wb") as out:
        popen = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=env,
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    worker = Process(popen, log)
    try:
        worker.wait_ready()
        done = subprocess.run(
            [sys.executable, "-c", "\n".join(program)],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stderr + worker.output()
        assert worker.stop() == 0
    finally:
        worker.kill_group()
