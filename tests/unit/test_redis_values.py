"""Messages and records as Redis keeps them: nothing is changed on the way."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.drivers.redis.consumer import _by_size
from celeriac.drivers.redis.keys import Keys
from celeriac.drivers.redis.message import (
    burial_head,
    lane,
    pack,
    pack_follow_up,
    unpack,
    unpack_burial,
    unpack_follow_up,
)
from celeriac.drivers.redis.records import part_fields, read_part, read_record, record_fields
from celeriac.kernel.errors import PayloadTooLarge
from celeriac.kernel.message import Delivery, Envelope, Part, Record, Settlement, Verdict

KEYS = Keys("", "redis:h/0", cluster=False)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)
times = st.floats(0, 1e10)
envelopes = st.builds(
    Envelope, names, names, st.binary(), st.integers(0, 9), times, times, st.integers(0, 2**32 - 1)
)
fences = st.tuples(st.integers(0, 1000), st.integers(0, 1000))
states = st.sampled_from(["SUCCESS", "FAILURE", "STARTED", "RETRY", 'od"d\\', "two words", "ü"])


@given(envelopes, times)
def test_a_message_comes_back(envelope: Envelope, at: float) -> None:
    assert unpack(envelope.id.encode(), pack(envelope, at)) == envelope
    assert unpack_follow_up(pack_follow_up(envelope, at)) == envelope


@given(envelopes, times, st.text(st.characters(exclude_categories=["Cs"])))
def test_a_burial_comes_back(envelope: Envelope, at: float, reason: str) -> None:
    buried = unpack_burial(envelope.id.encode(), burial_head(3, at, reason) + pack(envelope, at))
    assert (buried.envelope, buried.reason, buried.at, buried.handed_out) == (
        envelope,
        reason,
        at,
        3,
    )


def test_a_long_reason_is_cut() -> None:
    head = burial_head(1, 0.0, "ü" * 100_000)
    buried = unpack_burial(b"t", head + pack(Envelope("t", "q", b"x"), 0.0))
    assert buried.reason.startswith("üüü")
    assert buried.envelope.body == b"x"


@given(st.integers(-5, 20), names)
def test_a_lane_has_one_digit(priority: int, queue: str) -> None:
    assert lane(priority, queue) == f"{max(0, min(9, priority))}:{queue}"


@given(names, states, st.none() | st.binary(), fences, times)
def test_a_record_comes_back(
    task_id: str, state: str, body: bytes | None, fence: tuple[int, int], expires: float
) -> None:
    record = Record(task_id, state, body, fence, expires)
    key, _, _, _, _, _, note, kept = record_fields(record, KEYS)
    assert key == f"celery-task-meta-{task_id}"
    assert note, "no Celery meta: something must say the state"
    assert read_record(task_id, kept, note.encode(), -1, 0.0) == record
    assert read_part(part_fields(Part("g", 0, record))[3]) == record


@given(states)
def test_celerys_meta_needs_nothing_beside_it(state: str) -> None:
    for separators in ((",", ":"), (", ", ": ")):
        body = json.dumps({"status": state, "result": 1}, separators=separators).encode()
        record = Record("t", state, body)
        assert record_fields(record, KEYS)[6] == ""
        assert read_record("t", body, b"", -1, 0.0) == record


def test_a_fence_is_noted_until_the_end() -> None:
    body = b'{"status":"RETRY","result":1}'
    assert record_fields(Record("t", "RETRY", body, (1, 1)), KEYS)[6]
    body = b'{"status":"SUCCESS","result":1}'
    assert not record_fields(Record("t", "SUCCESS", body, (1, 1)), KEYS)[6]


def test_what_others_wrote_is_read() -> None:
    body = b'{"task_id": "t", "result": {"status": "no"}, "status": "FAILURE"}'
    assert read_record("t", body, b"", 5_000, 100.0).state == "FAILURE"
    assert read_record("t", body, b"", 5_000, 100.0).expires_at == 105.0
    assert read_record("t", b"\x80\x04pickle", b"", -1, 0.0).state == "PENDING"


def test_a_result_that_redis_cannot_take_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celeriac.drivers.redis.records.MAX_BODY", 10)
    large = Record("t", "SUCCESS", b"x" * 11)
    with pytest.raises(PayloadTooLarge, match="put large data elsewhere"):
        record_fields(large, KEYS)
    with pytest.raises(PayloadTooLarge):
        part_fields(Part("g", 0, large))


def test_outcomes_go_in_commands_that_the_server_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celeriac.drivers.redis.consumer.LARGEST", 10)
    batch = [
        Settlement(
            Delivery(Envelope(str(n), "q", b""), "token", 0.0),
            Verdict.ACK,
            record=Record(str(n), "SUCCESS", b"x" * size),
        )
        for n, size in enumerate([4, 4, 4, 30, 1, 1])
    ]
    parts = [[one.delivery.envelope.id for one in part] for part in _by_size(batch)]
    assert parts == [["0", "1"], ["2"], ["3"], ["4", "5"]]
