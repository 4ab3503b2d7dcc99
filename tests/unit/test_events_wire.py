"""Events as bytes: on the bus, and in Celery's own form, as kombu reads and writes it."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import celery
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.transport.virtual import Channel, Message

from celeriac.kernel.celery_events import (
    channel,
    envelope,
    is_own,
    pattern,
    read_envelope,
    repeated,
    rewritten,
    routed,
)
from celeriac.kernel.errors import WireError
from celeriac.kernel.events import (
    TASK_FIELDS,
    Line,
    Received,
    Stamp,
    Started,
    Succeeded,
    event,
    read,
    written,
)

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(["uuid", "result", "args", "done", "ünïcode"])


@given(st.lists(st.dictionaries(NAMES, PLAIN), max_size=4))
def test_what_is_written_is_read(batch: list[dict[str, Any]]) -> None:
    stamp = Stamp("wörker@here", 12, -1)
    message = stamp.message([event("a-b", 1.5, fields) for fields in batch])
    common = {"hostname": "wörker@here", "pid": 12, "utcoffset": -1}
    assert read(message) == [
        {**common, "clock": clock, "type": "a-b", "timestamp": 1.5, **fields}
        for clock, fields in enumerate(batch, 1)
    ]


def test_structs_have_celerys_fields() -> None:
    bodies = written(each())
    assert len(bodies) == 3
    for body in bodies:
        found = json.loads(body)
        assert set(found) == {*TASK_FIELDS[found["type"]], "type", "timestamp"}
    # One that is stamped here, and one that came from a child, are the same.
    assert read(Stamp("w@h", 7, 0).message(each())) == read(Stamp("w@h", 7, 0).message(bodies))


def each(name: str = "add") -> list[Line]:
    return [
        Received(1.0, "id", name, "()", "{}", "id", None, 0, None, None),
        Started(1.0, "id"),
        Succeeded(1.0, "id", "3", 0.5),
    ]


def test_one_that_cannot_be_written_costs_itself_only() -> None:
    for batch in (each("half \ud800"), written(each("half \ud800"))):
        kinds = [one["type"] for one in read(Stamp("w@h", 7, 0).message(batch))]
        assert kinds == ["task-started", "task-succeeded"]


def test_events_of_tasks_alone_are_repeated_as_they_are() -> None:
    message = Stamp('a"b\\@host', 7, 0).message(
        [event("task-x", 1.0, {"args": '"type":"me"'}), *each()]
    )
    without = message.replace(b'"utcoffset":0,', b"")
    assert without != message
    assert repeated(message) == ('a"b\\@host', [("task.multi", without)])
    mixed = Stamp("w@h", 7, 0).message([*each(), event("worker-online", 1.0, {})])
    name, parts = repeated(mixed)
    assert (name, [key for key, _ in parts]) == ("w@h", ["task.multi", "worker.online"])
    nested = Stamp("w@h", 7, 0).message([event("task-x", 1.0, {"it": {"type": "me"}})])
    assert [key for key, _ in repeated(nested)[1]] == ["task.multi"]
    with pytest.raises(WireError):
        repeated(b"[1")


def test_what_json_has_no_form_for_is_shown() -> None:
    assert json.loads(event("a-b", 1.0, {"it": {1}, "kind": object}))["it"] in ("{1}", [1])


def test_what_cannot_be_written_is_said() -> None:
    with pytest.raises(WireError, match="a-b"):
        event("a-b", 1.0, {"x": "\ud800"})


@pytest.mark.parametrize("hostile", [b"", b"{", b"{}", b"[1]", b"\xff", b"[" * 100_000])
def test_what_is_no_message_of_events(hostile: bytes) -> None:
    with pytest.raises(WireError):
        read(hostile)
    with pytest.raises(WireError):
        read_envelope(hostile)


def said(kind: str, number: int) -> dict[str, Any]:
    return {"type": kind, "hostname": "w1@here", "n": number}


def test_tasks_go_together_and_the_order_stays() -> None:
    events = [
        said("task-received", 1),
        said("task-started", 2),
        said("worker-heartbeat", 3),
        said("task-succeeded", 4),
        said("deploy-done", 5),
    ]
    found = [(key, json.loads(body)) for key, body in routed(events)]
    assert [key for key, _ in found] == [
        *("task.multi", "worker.heartbeat", "task.multi", "deploy.done"),
    ]
    assert found[0][1] == events[:2]
    assert found[1][1] == events[2]


@pytest.mark.parametrize("kind", ["worker-online", "task-started"])
def test_a_monitor_in_another_zone_does_not_shift_the_time(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    try:
        message = Stamp("w1@here", 12, -1).message([event(kind, 1e9, {"uuid": "1"})])
        _, ((_, body),) = repeated(message)
        with celery.Celery("monitor", broker="memory://", set_as_current=False) as app:
            with app.connection() as connection:
                receiver = app.events.Receiver(connection)
                events = json.loads(body)
                only = events[0] if isinstance(events, list) else events
                _, found = receiver.event_from_message(only)
        assert found["timestamp"] == 1e9
    finally:
        monkeypatch.undo()
        time.tzset()


def test_kombu_reads_the_envelope() -> None:
    ((key, body),) = routed([said("task-started", 1)])
    raw = json.loads(envelope(key, body, hostname="w1@here", tag="tag"))
    message = Message(raw, channel=_Channel())
    assert message.payload == [said("task-started", 1)]
    assert message.headers == {"sw_ident": "celeriac", "hostname": "w1@here"}
    assert message.delivery_info == {"exchange": "celeryev", "routing_key": "task.multi"}


class _Channel(Channel):  # type: ignore[misc]
    """As much of a channel as a message needs."""

    def __init__(self) -> None:
        self.auto_delete_queues: set[str] = set()

    def __del__(self) -> None: ...

    def message_to_python(self, message: Any) -> Any:
        return message


@given(st.lists(st.dictionaries(NAMES, PLAIN), max_size=3))
def test_an_envelope_round_trip(batch: list[dict[str, Any]]) -> None:
    events = [{"type": "task-x", **fields} for fields in batch]
    found = [
        one
        for key, body in routed(events)
        for one in read_envelope(envelope(key, body, hostname="w", tag="t"))
    ]
    assert found == events


def test_an_envelope_that_is_not_json_is_refused() -> None:
    body = base64.b64encode(b"cos\nsystem\n").decode()
    raw = {"body": body, "content-type": "application/x-python-serialize"}
    with pytest.raises(WireError, match="application/x-python-serialize"):
        read_envelope(json.dumps(raw).encode())


def test_channels() -> None:
    assert channel(3, "worker.heartbeat") == "/3.celeryev/worker.heartbeat"
    assert channel(0, "task.multi", "app:") == "app:/0.celeryev/task.multi"


def test_what_celeriac_said_is_told_from_what_celery_said() -> None:
    ((key, body),) = routed([{"type": "worker-online", "hostname": "w"}])
    own = envelope(key, body, hostname="w", tag="t")
    assert is_own(own)
    theirs = json.dumps({**json.loads(own), "headers": {"hostname": "w"}}).encode()
    assert not is_own(theirs)
    assert read(rewritten(theirs)) == [{"type": "worker-online", "hostname": "w"}]


def test_a_pattern_matches_its_own_prefix_only() -> None:
    assert pattern(3) == "/3.celeryev/*"
    assert pattern(0, "a*[") == "a\\*\\[/0.celeryev/*"
