"""What a person would see: pages in headless Chromium.

Owns: dom, screenshot, need_chromium.  May import: what tests use.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
BINARY = next(filter(None, map(shutil.which, NAMES)), None)


def need_chromium() -> None:
    """Skip a test where no browser is installed; fail it where CI is set."""
    if BINARY is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is not installed: tools/servers.sh")
        pytest.skip("chromium is not installed")


def dom(url: str, *, seconds: float = 5) -> str:
    """Return a page as it is after its scripts have run.

    :param seconds: how long they run, on the browser's own clock, which skips what is only waiting.
    """
    return _run("--dump-dom", f"--virtual-time-budget={int(seconds * 1000)}", url)


def screenshot(url: str, path: Path, *, size: tuple[int, int] = (1200, 800)) -> None:
    """Save what a page looks like as PNG."""
    _run(f"--screenshot={path}", f"--window-size={size[0]},{size[1]}", "--hide-scrollbars", url)


def _run(*options: str) -> str:
    need_chromium()
    quiet = ("--disable-gpu", "--disable-background-networking", "--disable-component-update")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        done = subprocess.run(
            # In a container there is often no sandbox to be had; these pages are our own.
            [str(BINARY), "--headless", "--no-sandbox", "--disable-dev-shm-usage", "--no-first-run",
             *quiet, f"--user-data-dir={profile}", *options],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
