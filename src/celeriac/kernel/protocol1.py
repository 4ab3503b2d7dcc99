"""Celery's task protocol 1, as producers before Celery 4 and `task_protocol = 1` send it.

One object holds everything, encoded as the message's body.  It is read as JSON only: to look into a
pickle is to run it.

Owns: upgrade.  May import: kernel.
"""

from __future__ import annotations

import datetime as _dt
import json
from collections.abc import Mapping
from typing import Any

from celeriac.kernel.errors import WireError


def upgrade(
    headers: Mapping[str, Any], properties: Mapping[str, Any], body: bytes
) -> tuple[dict[str, Any], bytes]:
    """Return the headers and the body that protocol 2 has for a message of protocol 1.

    :raises WireError: it is none, or is not plain JSON.
    """
    kind = properties.get("content_type") or "application/json"
    if kind != "application/json" or headers.get("compression"):
        raise WireError(
            f"a message without a task header ({kind}): of Celery's task protocol 1 only"
            " uncompressed JSON is read; let its producer use task_protocol=2"
        )
    try:
        said = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WireError(f"a message without a task header whose body is no JSON: {error}") from None
    if not isinstance(said, dict) or not said.get("task") or not said.get("id"):
        raise WireError("a message that names no task, neither in its headers nor in its body")
    local = not said.get("utc", True)
    embed = {name: said.get(name) for name in ("callbacks", "errbacks", "chord")}
    payload = [said.get("args") or [], said.get("kwargs") or {}, {**embed, "chain": None}]
    upgraded = {
        **headers,
        "task": said["task"],
        "id": said["id"],
        "retries": said.get("retries") or 0,
        "eta": _aware(said.get("eta"), local),
        "expires": _aware(said.get("expires"), local),
        "timelimit": said.get("timelimit"),
        "group": said.get("taskset"),
    }
    return upgraded, json.dumps(payload).encode()


def _aware(value: Any, local: bool) -> Any:
    """Return a date with its offset: one without is in UTC, or in the machine's zone."""
    if not isinstance(value, str) or not local:
        return value
    try:
        when = _dt.datetime.fromisoformat(value)
    except ValueError:
        return value
    return when.astimezone().isoformat() if when.tzinfo is None else value
