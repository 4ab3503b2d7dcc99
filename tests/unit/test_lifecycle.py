"""The verdict table: every way in which a task can end, and what becomes of its message."""

from __future__ import annotations

import datetime as dt

import pytest

from celeriac.kernel.errors import (
    Ignore,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
    TaskRevokedError,
    Terminated,
    TimeLimitExceeded,
    WorkerLostError,
)
from celeriac.kernel.lifecycle import Policy, decide
from celeriac.kernel.message import Verdict

ACK, RETRY, RELEASE, LOST, BURY = (
    Verdict.ACK,
    Verdict.RETRY,
    Verdict.RELEASE,
    Verdict.LOST,
    Verdict.BURY,
)
EARLY = Policy(acks_late=False)
NOT_ON_FAILURE = Policy(acks_on_failure=False)
NOT_ON_TIMEOUT = Policy(acks_on_timeout=False)
GIVE_UP = Policy(reject_on_worker_lost=False)

TABLE = [
    # policy, error, handed out, verdict, state
    (Policy(), None, 1, ACK, "SUCCESS"),
    (NOT_ON_FAILURE, None, 9, ACK, "SUCCESS"),
    (Policy(), ValueError("x"), 1, ACK, "FAILURE"),
    (Policy(), ValueError("x"), 9, ACK, "FAILURE"),
    (NOT_ON_FAILURE, ValueError("x"), 1, BURY, "FAILURE"),
    (NOT_ON_TIMEOUT, ValueError("x"), 1, ACK, "FAILURE"),
    (Policy(), SoftTimeLimitExceeded(), 1, ACK, "FAILURE"),
    (NOT_ON_TIMEOUT, SoftTimeLimitExceeded(), 1, ACK, "FAILURE"),
    (NOT_ON_FAILURE, SoftTimeLimitExceeded(), 1, BURY, "FAILURE"),
    (Policy(), SystemExit(1), 1, ACK, "FAILURE"),
    (Policy(), Retry(when=5), 1, RETRY, "RETRY"),
    (EARLY, Retry(when=5), 1, RETRY, "RETRY"),
    (NOT_ON_FAILURE, Retry(), 9, RETRY, "RETRY"),
    (Policy(), Ignore(), 1, ACK, None),
    (NOT_ON_FAILURE, Ignore(), 1, ACK, None),
    (Policy(), Reject("why"), 1, BURY, "FAILURE"),
    (Policy(), Reject("why", requeue=True), 1, RELEASE, None),
    (Policy(), Reject("why", requeue=True), 9, RELEASE, None),
    (Policy(), TaskRevokedError("expired"), 1, ACK, "REVOKED"),
    (NOT_ON_FAILURE, TaskRevokedError("expired"), 1, ACK, "REVOKED"),
    (Policy(), Terminated(15), 1, ACK, "REVOKED"),
    (Policy(), WorkerLostError("died"), 1, LOST, None),
    (Policy(), WorkerLostError("died"), 4, LOST, None),
    (Policy(), WorkerLostError("died"), 5, BURY, "FAILURE"),
    (Policy(), WorkerLostError("died"), 6, BURY, "FAILURE"),
    (Policy(max_deliveries=1), WorkerLostError("died"), 1, BURY, "FAILURE"),
    (EARLY, WorkerLostError("died"), 1, ACK, "FAILURE"),
    (GIVE_UP, WorkerLostError("died"), 1, ACK, "FAILURE"),
    (GIVE_UP, WorkerLostError("died"), 9, ACK, "FAILURE"),
    (Policy(), TimeLimitExceeded(5), 1, ACK, "FAILURE"),
    (NOT_ON_FAILURE, TimeLimitExceeded(5), 1, ACK, "FAILURE"),
    (NOT_ON_TIMEOUT, TimeLimitExceeded(5), 1, LOST, None),
    (NOT_ON_TIMEOUT, TimeLimitExceeded(5), 4, LOST, None),
    (NOT_ON_TIMEOUT, TimeLimitExceeded(5), 5, BURY, "FAILURE"),
]


@pytest.mark.parametrize(
    ("policy", "error", "handed_out", "verdict", "state"),
    TABLE,
    ids=[f"{n}-{row[1]!r}-{row[3].value}" for n, row in enumerate(TABLE)],
)
def test_verdicts(
    policy: Policy,
    error: BaseException | None,
    handed_out: int,
    verdict: Verdict,
    state: str | None,
) -> None:
    decision = decide(policy, error, handed_out=handed_out, now=1000.0)
    assert (decision.verdict, decision.state) == (verdict, state)
    if verdict is BURY:
        assert decision.reason, "a person is told why"
    if verdict is not RETRY:
        assert decision.not_before == 0.0


def test_subclasses_end_like_their_bases() -> None:
    class Mine(Reject):
        """A user's own."""

    class Gone(WorkerLostError):
        """A pool's own."""

    assert decide(Policy(), Mine("x", requeue=True)).verdict is RELEASE
    assert decide(Policy(), Gone("x")).verdict is LOST


@pytest.mark.parametrize(
    ("when", "not_before"),
    [
        (None, 0.0),
        (0, 0.0),
        (-5, 0.0),
        (5, 1005.0),
        (0.5, 1000.5),
        (dt.datetime(2030, 1, 1, tzinfo=dt.UTC), 1893456000.0),
        (dt.datetime(2030, 1, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2))), 1893456000.0),
        (dt.datetime(1990, 1, 1, tzinfo=dt.UTC), 631152000.0),
    ],
)
def test_when_a_retry_is_due(when: float | dt.datetime | None, not_before: float) -> None:
    assert decide(Policy(), Retry(when=when), now=1000.0).not_before == not_before


def test_reasons_say_what_happened() -> None:
    lost = decide(Policy(), WorkerLostError("signal 9"), handed_out=5).reason
    assert "5 times" in lost
    assert "signal 9" in lost
    assert "because" in decide(Policy(), Reject("because")).reason
    failed = decide(NOT_ON_FAILURE, ValueError("x" * 10_000)).reason
    assert "ValueError" in failed
    assert len(failed) < 300
    assert "5 times" in decide(NOT_ON_TIMEOUT, TimeLimitExceeded(1), handed_out=5).reason


def test_a_repr_that_raises_ends_no_worker() -> None:
    class Bad(Exception):
        def __repr__(self) -> str:
            raise RuntimeError("no")

    decision = decide(NOT_ON_FAILURE, Bad())
    assert decision.verdict is BURY
    assert "Bad" in decision.reason
