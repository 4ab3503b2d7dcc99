"""Time limits that were declared, against what the pool can keep.

Owns: refuse_limits, warn_of_long_tasks.  May import: kernel, ports, client.
"""

from __future__ import annotations

import logging

from celeriac.client.app import Celeriac
from celeriac.kernel.errors import ImproperlyConfigured
from celeriac.ports.pool import PoolTraits

logger = logging.getLogger("celeriac.worker")


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


def warn_of_long_tasks(
    app: Celeriac, holds_for: float | None, limits: tuple[float | None, float | None]
) -> None:
    """Say at start which tasks may run for longer than the broker lets a worker hold a message.

    :param holds_for: `Capabilities.holds_for`.
    :param limits: the worker's own (hard, soft) limits, for tasks that have none.
    """
    if holds_for is None:
        return
    longest: tuple[float, str] = (0.0, "")
    endless = []
    for name, task in app.tasks.items():
        if name.startswith("celery."):
            continue
        own = task.setting("time_limit") or task.setting("soft_time_limit")
        limit = own or limits[0] or limits[1]
        if limit is None:
            endless.append(name)
        else:
            longest = max(longest, (limit, name))
    if longest[0] >= holds_for:
        logger.warning(
            "task %s may run for %g s, but the broker takes a message back that is held for %g s "
            "(consumer_timeout): the task goes on and is kept, though another worker may get it too; "
            "raise consumer_timeout in rabbitmq.conf, then say so here: "
            "broker_transport_options = {'consumer_timeout': seconds}",
            longest[1],
            longest[0],
            holds_for,
        )
    elif endless:
        logger.info(
            "tasks without a time limit: %d. The broker takes a message back that is held for %g s "
            "(consumer_timeout)",
            len(endless),
            holds_for,
        )
