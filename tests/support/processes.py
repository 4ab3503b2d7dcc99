"""Who is whose child, and who lives, as /proc has it.

Owns: parent_of, below, alive.
"""

from __future__ import annotations

import os
from pathlib import Path


def parent_of(pid: int) -> int:
    """Return the parent of a process; 0 where it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def below(root: int, levels: int = 99) -> list[int]:
    """Return the processes under `root`, the nearest first, down to some levels."""
    found: list[int] = []
    level = [root]
    parents = {int(name): parent_of(int(name)) for name in os.listdir("/proc") if name.isdigit()}
    while level and levels:
        level = [pid for pid, parent in parents.items() if parent in level]
        found += level
        levels -= 1
    return found


def alive(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
