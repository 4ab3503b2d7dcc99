"""Messages as bytes: our frame, Celery's protocol 2, and all the ways in which bytes can be wrong."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.kernel.errors import WireError
from celeriac.kernel.message import Envelope
from celeriac.kernel.wire import (
    NO_EMBED,
    Headers,
    from_celery,
    iso_time,
    pack,
    parse_time,
    task_name,
    to_celery,
    unpack,
)

ID = "3d2c5f0e-6a38-4a8e-9f3e-0a4f9f0f7a11"
NAME = st.none() | st.text()
LIMIT = st.none() | st.floats(0, 1e6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
HEADERS = st.builds(
    Headers,
    task=st.text(min_size=1),
    id=st.text(min_size=1),
    root_id=NAME,
    parent_id=NAME,
    group=NAME,
    group_index=st.none() | st.integers(0, 10**6),
    shadow=NAME,
    timelimit=st.tuples(LIMIT, LIMIT),
    ignore_result=st.none() | st.booleans(),
    origin=NAME,
    argsrepr=NAME,
    kwargsrepr=NAME,
    replaced_task_nesting=st.integers(0, 100),
    stamped_headers=st.none() | st.lists(st.text(), max_size=3),
    stamps=st.none() | st.dictionaries(st.text(), JSON, max_size=3),
    correlation_id=NAME,
    reply_to=NAME,
    compression=NAME,
    routing_key=NAME,
    parked_at=st.floats(0, 1e10),
    parked=st.integers(0, 100),
    extra=st.dictionaries(st.text(), JSON, max_size=3),
)


# -- our frame -----------------------------------------------------------------------------------


@given(HEADERS, st.binary())
def test_round_trip(headers: Headers, payload: bytes) -> None:
    body = pack(headers, payload)
    assert unpack(body) == (headers, payload)
    assert task_name(body) == headers.task


def test_the_frame_is_as_written() -> None:
    body = pack(Headers(task="t", id="i"), b"[[],{},null]")
    head = b'{"task":"t","id":"i"}'
    assert body == b"\x01" + len(head).to_bytes(4, "big") + head + b"[[],{},null]"


@given(HEADERS, st.binary(), st.data())
def test_what_is_cut_off_is_refused(headers: Headers, payload: bytes, data: Any) -> None:
    whole = pack(headers, payload)
    ends = len(whole) - len(payload)
    cut = whole[: data.draw(st.integers(0, ends - 1))]
    for read in (unpack, task_name):
        with pytest.raises(WireError):
            read(cut)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(body: bytes) -> None:
    for read in (unpack, task_name):
        try:
            read(body)
        except WireError:
            pass


@given(st.binary(max_size=100))
def test_any_headers_are_headers_or_refused(head: bytes) -> None:
    body = b"\x01" + len(head).to_bytes(4, "big") + head
    for read in (unpack, task_name):
        try:
            read(body)
        except WireError:
            pass


@pytest.mark.parametrize("version", [0, 2, 255, ord("{"), ord("[")])
def test_other_versions_are_refused(version: int) -> None:
    body = bytes([version]) + pack(Headers(task="t", id="i"), b"")[1:]
    with pytest.raises(WireError, match="not a task message: it begins with"):
        unpack(body)


def frame(head: Any) -> bytes:
    """Return a frame with these headers."""
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return b"\x01" + len(text).to_bytes(4, "big") + text + b"[[],{},null]"


@pytest.mark.parametrize(
    ("head", "named"),
    [
        ({"id": "i"}, "task"),
        ({"task": 5, "id": "i"}, "task"),
        ([], "object"),
        (b"{", "truncated"),
        (b"\xff\xfe", "malformed"),
        (b"[" * 100_000, "are wrong"),
    ],
)
def test_wrong_headers_are_named(head: Any, named: str) -> None:
    for read in (unpack, task_name):
        with pytest.raises(WireError, match=named):
            read(frame(head))


@pytest.mark.parametrize(
    ("head", "named"),
    [
        ({"task": "t"}, "id"),
        ({"task": "t", "id": "i", "timelimit": 5}, "timelimit"),
        ({"task": "t", "id": "i", "timelimit": [1]}, "timelimit"),
        ({"task": "t", "id": "i", "group_index": "x"}, "group_index"),
        ({"task": "t", "id": "i", "extra": []}, "extra"),
    ],
)
def test_the_name_can_be_read_of_headers_that_are_wrong_elsewhere(
    head: dict[str, Any], named: str
) -> None:
    assert task_name(frame(head)) == "t"
    with pytest.raises(WireError, match=named):
        unpack(frame(head))


def test_headers_of_a_later_version_are_passed_over() -> None:
    headers, _ = unpack(frame({"task": "t", "id": "i", "new": 1}))
    assert headers == Headers(task="t", id="i")


@pytest.mark.parametrize("value", [object(), {1, object()}, {"a": b"\xff", "b": object()}])
def test_headers_that_json_cannot_carry(value: Any) -> None:
    with pytest.raises(WireError, match=r"headers of app\.add"):
        pack(Headers(task="app.add", id="i", extra={"x": value}), b"")


def test_headers_that_hold_themselves() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(WireError):
        pack(Headers(task="t", id="i", extra={"x": ring}), b"")


# -- times ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2030-01-01T00:00:00+00:00", 1893456000.0),
        ("2030-01-01T02:00:00+02:00", 1893456000.0),
        ("2030-01-01T00:00:00", 1893456000.0),
        ("2030-01-01T00:00:00.5Z", 1893456000.5),
        ("2030-01-01", 1893456000.0),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_time(text, "eta") == seconds


@given(st.datetimes(dt.datetime(1971, 1, 1), dt.datetime(2200, 1, 1)))
def test_times_round_trip(when: dt.datetime) -> None:
    seconds = when.replace(tzinfo=dt.UTC).timestamp()
    assert parse_time(iso_time(seconds), "eta") == pytest.approx(seconds, abs=1e-5)


@pytest.mark.parametrize("value", ["soon", "", "2030-13-01", 5, None, [], "9" * 5000])
def test_bad_times_are_named(value: Any) -> None:
    with pytest.raises(WireError, match="eta is no ISO 8601 date") as caught:
        parse_time(value, "eta")
    assert len(str(caught.value)) < 200


@given(st.text())
def test_any_text_is_a_time_or_refused(text: str) -> None:
    try:
        parse_time(text, "eta")
    except WireError:
        pass


# -- Celery's protocol 2 -------------------------------------------------------------------------


def celerys(**changed: Any) -> dict[str, Any]:
    """Return the headers of a message of Celery 5.6."""
    return {
        "lang": "py",
        "task": "app.add",
        "id": ID,
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": ID,
        "parent_id": None,
        "argsrepr": "(1, 2)",
        "kwargsrepr": "{}",
        "origin": "gen4711@host",
        "ignore_result": False,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
        **changed,
    }


PROPERTIES = {
    "correlation_id": ID,
    "reply_to": "1f0a",
    "delivery_mode": 2,
    "delivery_info": {"exchange": "", "routing_key": "celery"},
    "priority": 0,
    "body_encoding": "base64",
    "delivery_tag": "tag",
    "content_type": "application/json",
    "content_encoding": "utf-8",
}
BODY = json.dumps([[1, 2], {}, NO_EMBED]).encode()


def test_a_message_of_celery() -> None:
    envelope = from_celery(celerys(), PROPERTIES, BODY, queue="celery")
    assert (envelope.id, envelope.queue, envelope.priority) == (ID, "celery", 0)
    assert (envelope.not_before, envelope.expires_at, envelope.attempt) == (0.0, 0.0, 0)
    head, payload = unpack(envelope.body)
    assert payload == BODY
    assert head == Headers(
        task="app.add",
        id=ID,
        root_id=ID,
        argsrepr="(1, 2)",
        kwargsrepr="{}",
        origin="gen4711@host",
        stamps={},
        correlation_id=ID,
        reply_to="1f0a",
    )


def test_celerys_message_comes_back_as_it_was() -> None:
    sent = celerys(
        eta="2030-01-01T00:00:00+00:00",
        expires="2030-01-02T00:00:00+00:00",
        group="g",
        group_index=3,
        retries=2,
        timelimit=[10, 5.5],
        parent_id="p",
        shadow="shown",
        ignore_result=True,
        stamped_headers=["s"],
        stamps={"s": ["v"]},
        mine="own header",
        compression="gzip",
    )
    envelope = from_celery(sent, {**PROPERTIES, "priority": 7}, BODY, queue="q")
    assert (envelope.not_before, envelope.expires_at) == (1893456000.0, 1893542400.0)
    assert (envelope.attempt, envelope.priority) == (2, 7)
    assert unpack(envelope.body)[0].extra == {"mine": "own header"}
    headers, properties, body = to_celery(envelope)
    assert headers == sent
    assert body == BODY
    assert properties == {
        name: value for name, value in {**PROPERTIES, "priority": 7}.items() if name in properties
    }
    assert {"correlation_id", "reply_to", "priority", "content_type"} <= set(properties)


def test_our_message_has_every_header_of_celerys() -> None:
    body = pack(Headers(task="app.add", id=ID), BODY)
    headers, properties, payload = to_celery(Envelope(ID, "q", body, priority=4))
    expected = celerys(argsrepr=None, kwargsrepr=None, origin=None)
    assert headers == expected
    assert payload == BODY
    assert properties["correlation_id"] == ID
    assert properties["priority"] == 4
    json.dumps(headers)


def test_celery_itself_writes_what_is_read_here() -> None:
    celery = pytest.importorskip("celery")
    app = celery.Celery("other", set_as_current=False)
    message = app.amqp.as_task_v2(
        ID, "app.add", (1, 2), {"k": 3}, countdown=60, expires=120, time_limit=9, soft_time_limit=5
    )
    properties = {**message.properties, "content_type": "application/json"}
    body = json.dumps(message.body).encode()
    envelope = from_celery(message.headers, properties, body, queue="celery")
    head, payload = unpack(envelope.body)
    assert (head.task, head.id, head.timelimit) == ("app.add", ID, (9, 5))
    assert head.extra == {}
    assert json.loads(payload)[:2] == [[1, 2], {"k": 3}]
    assert envelope.expires_at - envelope.not_before == pytest.approx(60, abs=1)
    assert set(to_celery(envelope)[0]) == set(message.headers)


@given(HEADERS, st.binary(), st.integers(0, 9), st.integers(0, 100))
def test_any_message_goes_through_celerys_form(
    headers: Headers, payload: bytes, priority: int, attempt: int
) -> None:
    headers.extra = {f"x-{name}": value for name, value in headers.extra.items()}
    headers.parked, headers.parked_at, headers.routing_key = 0, 0.0, None  # ours alone
    envelope = Envelope(headers.id, "q", pack(headers, payload), priority, attempt=attempt)
    back = from_celery(*to_celery(envelope), queue="q")
    assert (back.id, back.priority, back.attempt) == (headers.id, priority, attempt)
    head, body = unpack(back.body)
    assert body == payload
    same = ("task", "id", "group", "group_index", "shadow", "timelimit", "parent_id", "extra")
    assert [getattr(head, name) for name in same] == [getattr(headers, name) for name in same]
    assert (head.ignore_result or False) == (headers.ignore_result or False)
    assert head.root_id == (headers.root_id or headers.id)
    assert (head.compression or None) == (headers.compression or None)


@pytest.mark.parametrize("missing", ["task", "id"])
@pytest.mark.parametrize("how", ["absent", "None"])
def test_a_missing_header_is_named(missing: str, how: str) -> None:
    headers = celerys(**{missing: None})
    if how == "absent":
        del headers[missing]
    with pytest.raises(WireError, match=missing):
        from_celery(headers, PROPERTIES, BODY, queue="q")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"eta": "tomorrow"}, "eta"),
        ({"eta": 5}, "eta"),
        ({"expires": "never"}, "expires"),
        ({"timelimit": 5}, "timelimit"),
        ({"timelimit": [1, 2, 3]}, "timelimit"),
        ({"task": 5}, "task"),
        ({"retries": "often"}, "often"),
        ({"retries": float("inf")}, "infinity"),
        ({"group_index": "x"}, "group_index"),
        ({"stamps": []}, "stamps"),
        ({"mine": object()}, "headers of app.add"),
    ],
)
def test_a_wrong_header_is_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(WireError, match=named):
        from_celery(celerys(**wrong), PROPERTIES, BODY, queue="q")


@pytest.mark.parametrize(("priority", "kept"), [(None, 0), (-1, 0), (9, 9), (255, 9), ("3", 3)])
def test_priorities_are_brought_into_range(priority: Any, kept: int) -> None:
    envelope = from_celery(celerys(), {"priority": priority}, BODY, queue="q")
    assert envelope.priority == kept


def test_a_message_almost_without_properties() -> None:
    envelope = from_celery({"task": "t", "id": "i"}, {}, BODY, queue="q")
    head, _ = unpack(envelope.body)
    assert (head.content_type, head.content_encoding) == ("application/json", "utf-8")
    assert to_celery(envelope)[1]["correlation_id"] == "i"


def test_what_is_no_frame_does_not_go_to_celery() -> None:
    with pytest.raises(WireError):
        to_celery(Envelope("i", "q", b"[[], {}, {}]"))


def test_headers_know_no_field_of_an_envelope() -> None:
    ours = {field.name for field in msgspec.structs.fields(Headers)}
    assert not ours & {"queue", "priority", "not_before", "expires_at", "attempt", "retries"}


V1 = {
    "task": "app.add",
    "id": ID,
    "args": [1],
    "kwargs": {"b": 2},
    "retries": 3,
    "eta": "2030-01-01T00:00:00",
    "expires": None,
    "utc": True,
    "callbacks": [{"task": "x"}],
    "errbacks": None,
    "timelimit": [10, None],
    "taskset": "the-group",
    "chord": None,
}


def test_task_protocol_1_becomes_protocol_2() -> None:
    envelope = from_celery({}, {}, json.dumps(V1).encode(), queue="q")
    head, payload = unpack(envelope.body)
    assert (envelope.id, envelope.attempt) == (ID, 3)
    assert envelope.not_before == dt.datetime(2030, 1, 1, tzinfo=dt.UTC).timestamp()
    assert (head.task, head.group, head.timelimit) == ("app.add", "the-group", (10, None))
    args, kwargs, embed = json.loads(payload)
    assert (args, kwargs) == ([1], {"b": 2})
    assert embed == {**NO_EMBED, "callbacks": [{"task": "x"}]}


def test_a_local_time_of_protocol_1_is_the_machines() -> None:
    said = {**V1, "utc": False}
    envelope = from_celery({}, {}, json.dumps(said).encode(), queue="q")
    assert envelope.not_before == dt.datetime(2030, 1, 1).timestamp()


@pytest.mark.parametrize(
    ("body", "properties", "named"),
    [
        (b"\x80\x02", {"content_type": "application/x-python-serialize"}, "task_protocol=2"),
        (b"nonsense", {}, "no JSON"),
        (b"[]", {}, "names no task"),
        (b'{"task": "t"}', {}, "names no task"),
    ],
)
def test_what_is_neither_protocol_is_refused(
    body: bytes, properties: dict[str, Any], named: str
) -> None:
    with pytest.raises(WireError, match=named):
        from_celery({}, properties, body, queue="q")


def test_the_property_expiration_goes_both_ways() -> None:
    body = pack(Headers("t", ID), b"[]")
    _, properties, _ = to_celery(Envelope(ID, "q", body, expires_at=1_100.0), now=1_000.0)
    assert properties["expiration"] == "100000"
    headers = {"task": "t", "id": ID}
    assert from_celery(headers, properties, b"[]", queue="q", now=5.0).expires_at == 105.0
    with pytest.raises(WireError, match="expiration"):
        from_celery(headers, {"expiration": "soon"}, b"[]", queue="q", now=5.0)


def test_how_often_a_message_was_parked_goes_both_ways() -> None:
    body = pack(Headers("t", ID, parked=2, parked_at=5.0), b"[]")
    headers, properties, payload = to_celery(Envelope(ID, "q", body))
    head, _ = unpack(from_celery(headers, properties, payload, queue="q").body)
    assert (head.parked, head.parked_at, head.extra) == (2, 5.0, {})
