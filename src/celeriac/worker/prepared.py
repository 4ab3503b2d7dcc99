"""What a worker asks of a task once, and not at every run.

Owns: Prepared.  May import: kernel.
"""

from __future__ import annotations

from typing import Any

from celeriac.kernel.lifecycle import Policy


class Prepared:
    """What is the same for every run of one task."""

    __slots__ = (
        "check",
        "hard",
        "ignore",
        "keep_errors",
        "limited",
        "policy",
        "soft",
        "task",
        "track",
    )

    def __init__(self, task: Any, default_limits: tuple[float | None, float | None]) -> None:
        self.task = task
        self.policy: Policy = task.policy()
        hard, soft = task.setting("time_limit"), task.setting("soft_time_limit")
        self.hard = default_limits[0] if hard is None else hard
        self.soft = default_limits[1] if soft is None else soft
        self.limited = bool(self.hard or self.soft)
        self.ignore = bool(task.setting("ignore_result"))
        self.keep_errors = bool(task.setting("store_errors_even_if_ignored"))
        self.track = bool(task.setting("track_started"))
        self.check = task._check if task.typing else None
