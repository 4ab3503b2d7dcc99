"""Where celeriac's canvas answers otherwise than Celery's, and why; `docs/from-celery.md` tells users.

Celery's answers stand beside the behaviours.

Owns: DIFFERENCES, Difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Difference:
    """One answer of celeriac's."""

    behaviour: str
    ours: Any
    reason: str
    eager: bool | None = None
    """True: only eagerly; False: only with a worker."""


DIFFERENCES: tuple[Difference, ...] = ()
