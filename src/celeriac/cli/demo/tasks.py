"""The program that the demo runs: an app and seven tasks, as a user would write them.

Owns: app and its tasks.  May import: celeriac's public names only.
"""

from __future__ import annotations

import ast
import hashlib
import os
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from celeriac import Celeriac
from celeriac.exceptions import SoftTimeLimitExceeded

app = Celeriac("demo")

RETRIES = 2
"""How often `flaky` fails before it works."""

BACKOFF = 0.25
"""Seconds before its first retry; each wait is twice the one before."""

SOFT_LIMIT = 0.5
"""Seconds that `endless` gets."""


def measure(path: str) -> dict[str, Any]:
    """Return what is in a Python file: lines, words, imported modules, hash."""
    content = Path(path).read_bytes()
    return {
        "path": path,
        "lines": content.count(b"\n"),
        "words": len(content.split()),
        "modules": sorted(_imports(content)),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _imports(content: bytes) -> set[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old escapes in old files
        try:
            tree = ast.parse(content)
        except (SyntaxError, ValueError):
            return set()  # some of the library's own tests are broken on purpose
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


@app.task
def hello() -> int:
    """Return the process that tasks run in."""
    return os.getpid()


@app.task
def read(path: str) -> dict[str, Any]:
    """Measure one file: the work that is spread over the processes."""
    return measure(path)


@app.task
def add_up(measured: list[dict[str, Any]]) -> dict[str, Any]:
    """Add up what the others returned: the body of the chord, begun when the last of them ends."""
    modules: Counter[str] = Counter()
    for one in measured:
        modules.update(one["modules"])
    return {
        "files": len(measured),
        "lines": sum(one["lines"] for one in measured),
        "words": sum(one["words"] for one in measured),
        "modules": modules,
        "hashes": {one["path"]: one["sha256"] for one in measured},
    }


@app.task(
    bind=True,
    autoretry_for=(ConnectionError,),
    max_retries=5,
    retry_backoff=BACKOFF,
    retry_jitter=False,
)
def flaky(self: Any) -> int:
    """Fail twice, then return how many retries it took."""
    if self.request.retries < RETRIES:
        raise ConnectionError("the other side is not there yet")
    return int(self.request.retries)


@app.task
def punctual() -> float:
    """Return the moment at which it began."""
    return time.time()


@app.task(soft_time_limit=SOFT_LIMIT)
def endless() -> float:
    """Work for ever, and clean up when the soft time limit says stop."""
    began = time.monotonic()
    try:
        while True:
            time.sleep(60)
    except SoftTimeLimitExceeded:
        return time.monotonic() - began


@app.task(bind=True)
def doomed(self: Any) -> dict[str, Any]:
    """Wait to be killed; the second run, in another process, gets through."""
    if self.request.delivery_info["redelivered"]:
        return {"pid": os.getpid()}
    self.update_state(state="WORKING", meta={"pid": os.getpid()})
    time.sleep(60)
    return {"pid": 0}
