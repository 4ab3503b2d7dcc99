"""A worker that was started by another command of ours and must not outlive it.

Owns: MARK, tie_to_parent.  May import: the standard library only.
"""

from __future__ import annotations

import os
import signal
import sys

MARK = "CELERIAC_PARENT"
"""Environment variable with the process that a worker belongs to."""

_PR_SET_PDEATHSIG = 1


def tie_to_parent() -> bool:
    """End when the process that `MARK` names ends; tell whether there is one."""
    parent = os.environ.pop(MARK, None)
    if parent is None:
        return False
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        raise SystemExit(0)  # it is gone already
    return True
