"""One setting: its name, type, default and meaning.

Owns: Setting.  May import: the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting."""

    name: str
    kind: str
    """bool, int, float, str, list, dict, seconds or any; with `?` at the end None is allowed."""
    default: Any
    help: str
    old: tuple[str, ...] = ()
    """Celery's upper-case names for it, beside CELERY_<NAME>."""
    ignored: str = ""
    """Why celeriac accepts it and does nothing with it; empty where it means something."""
