"""Errbacks of the new form, which are called in place with (request, exception, traceback).

Owns: takes_three, call_errback.  May import: kernel, client.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from typing import Any

from celeriac.client.context import Context

logger = logging.getLogger("celeriac.client")


def takes_three(task: Any, link: Mapping[str, Any]) -> bool:
    """Return whether an errback is called in place with (request, exception, traceback).

    A function that takes more than one argument beside those that are given already; a bound task,
    a class of its own and an immutable signature are sent instead, with the failed task's id.
    """
    function = getattr(type(task), "__wrapped__", None)
    if function is None or link.get("immutable") or inspect.ismethod(task.run):
        return False
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return True
    given = link.get("kwargs") or {}
    free = [
        one
        for one in parameters
        if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) and one.name not in given
    ]
    return len(free) - len(link.get("args") or ()) > 1


def call_errback(
    task: Any,
    link: Mapping[str, Any],
    request: Context,
    error: BaseException,
    traceback: str | None,
) -> None:
    """Call an errback here; what it raises is logged, since a failure must still be settled."""
    try:
        task(request, error, traceback, *(link.get("args") or ()), **(link.get("kwargs") or {}))
    except Exception:  # a user's errback
        logger.exception("errback %s of task %s[%s] failed", task.name, request.task, request.id)
