"""What becomes of a task that has ended: the one place where retry, ack and burial are decided.

Owns: the verdict table.  Knows nothing of brokers, threads or clocks: `now` comes in.
May import: kernel only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from celeriac.kernel.errors import (
    Ignore,
    Reject,
    Retry,
    TaskRevokedError,
    Terminated,
    TimeLimitExceeded,
    WorkerLostError,
)
from celeriac.kernel.message import Verdict
from celeriac.kernel.redact import bounded_repr
from celeriac.kernel.states import FAILURE, IGNORED, REJECTED, RETRY, REVOKED, SUCCESS


@dataclass(frozen=True, slots=True)
class Policy:
    """What a task says of its own failures; made once per task."""

    max_deliveries: int = 5
    acks_late: bool = True
    acks_on_failure: bool = True
    acks_on_timeout: bool = True
    reject_on_worker_lost: bool = True
    """Deliver it again when its process died (Celery's default is to give up)."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict on a delivery and the state to store; `state` None stores nothing."""

    verdict: Verdict
    state: str | None
    reason: str = ""
    not_before: float = 0.0
    """Unix seconds, with RETRY."""


_DONE = Decision(Verdict.ACK, SUCCESS)
_FAILED = Decision(Verdict.ACK, FAILURE)


def decide(
    policy: Policy, error: BaseException | None, *, handed_out: int = 1, now: float = 0.0
) -> Decision:
    """Return what to do with a delivery whose task raised `error`, or returned where it is None.

    :param handed_out: how often this attempt was handed out, this time included.
    :param now: unix seconds.
    """
    if error is None:
        return _DONE
    match error:
        case Retry():
            return Decision(Verdict.RETRY, RETRY, not_before=_when(error, now))
        case Ignore():
            return Decision(Verdict.ACK, None, reason=IGNORED)
        case Reject(requeue=True):
            return Decision(Verdict.RELEASE, None, reason=REJECTED)
        case Reject():
            return Decision(Verdict.BURY, FAILURE, reason=f"rejected by the task: {error.reason}")
        case TaskRevokedError() | Terminated():
            return Decision(Verdict.ACK, REVOKED)
        case WorkerLostError():
            return _lost(policy, error, handed_out)
        case TimeLimitExceeded():
            if policy.acks_on_timeout:
                return _FAILED
            if handed_out < policy.max_deliveries:
                return Decision(Verdict.LOST, None, reason=str(error))
            return Decision(Verdict.BURY, FAILURE, reason=f"over its time limit {handed_out} times")
    if policy.acks_on_failure:
        return _FAILED
    return Decision(Verdict.BURY, FAILURE, reason=f"failed: {bounded_repr(error, 200)}")


def _lost(policy: Policy, error: WorkerLostError, handed_out: int) -> Decision:
    if not (policy.acks_late and policy.reject_on_worker_lost):
        return _FAILED
    if handed_out >= policy.max_deliveries:
        # It took that many processes down with it, or came close: a person must look.
        reason = f"handed out {handed_out} times without an outcome; the last time: {error}"
        return Decision(Verdict.BURY, FAILURE, reason=reason)
    return Decision(Verdict.LOST, None, reason=str(error))


def _when(error: Retry, now: float) -> float:
    when = error.when
    if when is None:
        return 0.0
    if isinstance(when, datetime):
        return when.timestamp()
    if not math.isfinite(when):
        raise ValueError(f"a retry cannot be due in {when} s")
    return now + when if when > 0 else 0.0
