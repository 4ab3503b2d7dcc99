"""When to try again: backoff with jitter, which errors, and the delays of a publish.

Owns: backoff, retries_for, policy_delays.  May import: the standard library only.
"""

from __future__ import annotations

import random as _random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from celeriac.kernel.errors import TaskPredicate

_Classes = type[BaseException] | Sequence[type[BaseException]]


def backoff(
    factor: float,
    retries: int,
    maximum: float,
    jitter: bool,
    random: Callable[[int], int] = _random.randrange,
) -> float:
    """Return the seconds before the next attempt: `factor * 2**retries`, at most `maximum`.

    :param jitter: take a whole number of seconds from 0 to that instead (full jitter).
    :param random: returns a number below its argument.
    """
    # 2**1000 seconds are no longer than 2**60 where there is a maximum.
    countdown = min(maximum, factor * 2.0 ** min(retries, 60))
    if jitter:
        return max(0.0, float(random(int(countdown) + 1)))
    return max(0.0, countdown)


def retries_for(
    error: BaseException,
    autoretry_for: _Classes,
    dont_autoretry_for: _Classes = (),
) -> bool:
    """Return whether a task that raised `error` is to be tried again by itself.

    Both take one class or several, as an `except` clause does.
    """
    if not autoretry_for or isinstance(error, TaskPredicate):
        return False
    return isinstance(error, _tuple(autoretry_for)) and not isinstance(
        error, _tuple(dont_autoretry_for)
    )


def _tuple(classes: _Classes) -> tuple[type[BaseException], ...]:
    return (classes,) if isinstance(classes, type) else tuple(classes or ())


def policy_delays(policy: Mapping[str, Any]) -> Iterator[float]:
    """Return the pauses of Celery's retry policy, in seconds.

    :param policy: max_retries (None for ever), interval_start, interval_step, interval_max.
    """
    limit = policy.get("max_retries", 3)
    start = float(policy.get("interval_start", 0) or 0)
    step = float(policy.get("interval_step", 0.2) or 0)
    most = float(policy.get("interval_max", 1) or 0)
    count = 0
    while limit is None or count < limit:
        yield min(most, start + step * count)
        count += 1
