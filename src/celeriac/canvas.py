"""Celery's module of workflows.

Owns: nothing; re-exports.  May import: kernel, client.
"""

from celeriac.client import app as _app  # noqa: F401 - a signature finds the current app through it
from celeriac.kernel.canvas import (
    _chain,
    _chord,
    chain,
    chord,
    group,
)
from celeriac.kernel.maps import chunks, xmap, xstarmap
from celeriac.kernel.signature import Signature, maybe_signature, signature
from celeriac.kernel.stamping import StampingVisitor

subtask = signature
maybe_subtask = maybe_signature

__all__ = [
    "Signature",
    "StampingVisitor",
    "_chain",
    "_chord",
    "chain",
    "chord",
    "chunks",
    "group",
    "maybe_signature",
    "maybe_subtask",
    "signature",
    "subtask",
    "xmap",
    "xstarmap",
]
