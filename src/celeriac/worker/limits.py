"""Time limits that were declared, against what the pool can keep.

Owns: refuse_limits.  May import: kernel, ports, client.
"""

from __future__ import annotations

from celeriac.client.app import Celeriac
from celeriac.kernel.errors import ImproperlyConfigured
from celeriac.ports.pool import PoolTraits


def refuse_limits(
    app: Celeriac, traits: PoolTraits, limits: tuple[float | None, float | None]
) -> None:
    """Check at start that the pool can keep the time limits that were declared.

    :raises ImproperlyConfigured: it cannot; the message says which, and what to change.
    """
    found = [("the worker", *limits)]
    for name, task in app.tasks.items():
        found.append((f"task {name}", task.setting("time_limit"), task.setting("soft_time_limit")))
    for who, hard, soft in found:
        if hard and soft and soft > hard:
            raise ImproperlyConfigured(
                f"{who}: soft_time_limit {soft} is longer than time_limit {hard}"
            )
        for kind, value, kept in (
            ("time_limit", hard, traits.stops_hard),
            ("soft_time_limit", soft, traits.stops_soft),
        ):
            if value and not kept:
                raise ImproperlyConfigured(
                    f"{who} has {kind}={value:g}, which the {traits.name} pool cannot keep: "
                    "use -P prefork, or take the limit away"
                )
