"""Tests of programs that use celeriac: queue, worker and clock in the test's own hands.

    def test_order_sends_a_mail(celeriac_kit):
        place_order(42)
        celeriac_kit.assert_sent("shop.tasks.send_mail", args=[42])
        celeriac_kit.run_until_empty()

Owns: the public names of `celeriac.testing`, imported when they are first used, so that pytest
pays nothing for a plugin that no test asks for.  May import: everything below.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celeriac.testing.kit import KitClock, Ran, TaskKit
    from celeriac.testing.running import running_worker
    from celeriac.testing.sent import Sent

__all__ = ["KitClock", "Ran", "Sent", "TaskKit", "running_worker"]

_HOMES = {
    "KitClock": "kit",
    "Ran": "kit",
    "TaskKit": "kit",
    "Sent": "sent",
    "running_worker": "running",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
