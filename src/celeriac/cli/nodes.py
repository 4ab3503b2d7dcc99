"""Node names and what `%h`, `%n` and `%d` stand for in them and in file names.

Owns: expand, node_name.  May import: the standard library only.
"""

from __future__ import annotations

import re
import socket


def _replace(text: str, values: dict[str, str]) -> str:
    return re.sub(r"%(.)", lambda found: values.get(found[1], found[0]), text)


def node_name(text: str | None) -> str | None:
    """Return the name that `-n` means: `w1@%h` with the host's names filled in.

    %h is the host, %n its first word, %d its domain; a name without a host gets this one's.
    """
    if not text:
        return None
    host = socket.gethostname()
    first, _, domain = host.partition(".")
    name, at, rest = text.partition("@")
    full = f"{name}@{rest}" if at else f"{name}@{host}"
    return _replace(full, {"h": host, "n": first, "d": domain, "%": "%"})


def expand(text: str, node: str | None) -> str:
    """Return a file name with %n, %h and %d of a node filled in; %p is the node's whole name."""
    node = node or f"celery@{socket.gethostname()}"
    name, _, host = node.partition("@")
    return _replace(text, {"h": host, "n": name, "d": host.partition(".")[2], "p": node, "%": "%"})
