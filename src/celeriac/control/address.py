"""Whom a command is for.

Owns: is_meant, check_pattern.  May import: kernel.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

from celeriac.kernel.errors import ImproperlyConfigured


def check_pattern(pattern: str | None, matcher: str | None) -> None:
    """Check what a command is to be addressed with.

    :raises ImproperlyConfigured: the matcher is unknown, or the pattern is wrong.
    """
    if matcher not in (None, "glob", "pcre"):
        raise ImproperlyConfigured(f"matcher is 'glob' or 'pcre', not {matcher!r}")
    if pattern is not None and matcher == "pcre":
        try:
            re.compile(pattern)
        except re.error as error:
            raise ImproperlyConfigured(f"the pattern {pattern!r} is wrong: {error}") from None


def is_meant(
    node: str, destination: Sequence[str] | None, pattern: str | None, matcher: str | None
) -> bool:
    """Return whether a command is for `node`: named, matched by the pattern, or for everybody."""
    if pattern:
        if matcher == "pcre":
            # Only short ones: a pattern of a stranger's may take for ever.
            return len(pattern) <= 200 and re.match(pattern, node) is not None
        return fnmatch.fnmatchcase(node, pattern)
    return not destination or node in destination
