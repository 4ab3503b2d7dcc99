"""Python files as trees, each parsed once.

Owns: parsed.
"""

from __future__ import annotations

import ast
import functools
import gc
from pathlib import Path


@functools.cache
def parsed(path: Path) -> ast.Module:
    """Parse a file.

    CPython 3.11 keeps one state for all its parsers (gh-106905).  Where the collector runs in the
    middle of a parse and ends an object whose `__del__` prints a traceback, which parses too, the
    outer parse fails with "AST constructor recursion depth mismatch".  So it does not run here.
    """
    text, enabled = path.read_text(), gc.isenabled()
    gc.disable()
    try:
        return ast.parse(text, str(path))
    finally:
        if enabled:
            gc.enable()
