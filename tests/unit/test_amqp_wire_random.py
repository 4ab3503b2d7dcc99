"""The AMQP driver's own codec against pika's, with whatever hypothesis makes up."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pika")

from pika import frame as pikas
from pika import spec

from celeriac.drivers.amqp.channel import Outgoing
from celeriac.drivers.amqp.frames import write_publishes
from celeriac.drivers.amqp.reader import Connection, Message
from celeriac.drivers.amqp.table import Properties, Received

SHORT = st.text(max_size=40)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.text() | st.binary()
)
"""What both can say; of floats pika knows nothing, and what it writes as bytes is text where it can be."""
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SHORT, inner, max_size=4)
)
TABLES = st.dictionaries(SHORT, VALUES, max_size=8)
KNOWN = st.fixed_dictionaries(
    {},
    optional={
        "content_type": SHORT.filter(bool),
        "content_encoding": SHORT.filter(bool),
        "delivery_mode": st.integers(1, 2),
        "priority": st.integers(0, 255),
        "correlation_id": SHORT.filter(bool),
        "reply_to": SHORT.filter(bool),
        "expiration": SHORT.filter(bool),
        "message_id": SHORT.filter(bool),
    },
)
FRAME_MAX = 4_096


def read_by_pika(data: bytes) -> list[Any]:
    """Return the frames that pika finds in bytes."""
    found = []
    while data:
        consumed, one = pikas.decode_frame(data)
        assert consumed
        found.append(one)
        data = data[consumed:]
    return found


@settings(deadline=None)
@given(TABLES, KNOWN)
def test_pika_reads_our_properties(headers: dict[str, Any], known: dict[str, Any]) -> None:
    theirs = spec.BasicProperties()
    theirs.decode(Properties.of(headers, known).packed)
    assert theirs.headers == headers
    expected = {"delivery_mode": 2, **known}
    assert {name: getattr(theirs, name) for name in expected} == expected


@settings(deadline=None)
@given(TABLES, KNOWN, st.integers(0, 1 << 40))
def test_we_read_pikas_properties(
    headers: dict[str, Any], known: dict[str, Any], timestamp: int
) -> None:
    written = spec.BasicProperties(headers=headers, timestamp=timestamp, app_id="x", **known)
    ours = Received(b"".join(written.encode()))
    assert _textual(ours.headers) == _textual(headers)
    assert {name: getattr(ours, name) for name in known} == known


def _textual(value: Any) -> Any:
    """Return a value with bytes that are text as text: AMQP's S and x are told apart by one side only."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    if isinstance(value, list):
        return [_textual(one) for one in value]
    if isinstance(value, dict):
        return {key: _textual(one) for key, one in value.items()}
    return value


@settings(deadline=None)
@given(
    st.lists(st.tuples(SHORT, SHORT, st.binary(max_size=10_000), st.booleans()), max_size=6),
    st.integers(1, 65_535),
)
def test_pika_reads_our_publishes(
    batch: Sequence[tuple[str, str, bytes, bool]], number: int
) -> None:
    written: list[bytes] = []
    connection = SimpleNamespace(
        params=SimpleNamespace(frame_max=FRAME_MAX), _output_marshaled_frames=written.extend
    )
    channel = SimpleNamespace(channel_number=number, connection=connection)
    messages = [
        Outgoing(exchange, key, Properties.of({"n": n}, {}), body, mandatory)
        for n, (exchange, key, body, mandatory) in enumerate(batch)
    ]
    write_publishes(channel, messages)
    frames = read_by_pika(b"".join(written))
    assert all(one.channel_number == number for one in frames)
    for n, (exchange, key, body, mandatory) in enumerate(batch):
        method = frames.pop(0).method
        assert isinstance(method, spec.Basic.Publish)
        assert (method.exchange, method.routing_key, method.mandatory) == (exchange, key, mandatory)
        header = frames.pop(0)
        assert header.body_size == len(body)
        assert header.properties.headers == {"n": n}
        parts = b""
        while len(parts) < len(body):
            parts += frames.pop(0).fragment
        assert parts == body
    assert not frames


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 1 << 60), st.booleans(), SHORT, st.binary()), max_size=6),
    st.lists(st.integers(1, 400), min_size=1, max_size=8),
)
def test_we_read_pikas_deliveries(
    batch: Sequence[tuple[int, bool, str, bytes]], cuts: Sequence[int]
) -> None:
    data = b""
    for tag, redelivered, key, body in batch:
        method = spec.Basic.Deliver("consumer", tag, redelivered, "exchange", key)
        data += pikas.Method(1, method).marshal()
        properties = spec.BasicProperties(headers={"tag": tag})
        data += pikas.Header(1, len(body), properties).marshal()
        if body:
            data += pikas.Body(1, body).marshal()
    seen: list[Message] = []
    connection = Connection.__new__(Connection)
    connection.takers, connection._begun = {1: seen.extend}, {}
    connection._frame_buffer, connection.bytes_received, connection.frames_received = b"", 0, 0
    turn = 0
    while data:  # as the network cuts it
        size = cuts[turn % len(cuts)]
        connection._on_data_available(data[:size])
        data, turn = data[size:], turn + 1
    found = [(one.tag, one.redelivered, one.key, one.body) for one in seen]
    assert found == list(batch)
    assert [one.properties.headers for one in seen] == [{"tag": one[0]} for one in batch]
