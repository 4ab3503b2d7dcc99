"""What the AMQP driver reads and writes by itself: tables, properties, frames, acknowledgements."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("pika")

from pika import spec
from pika.frame import Body, Header
from pika.frame import Method as MethodFrame

from celeriac.drivers.amqp.frames import Acks
from celeriac.drivers.amqp.reader import Connection, Message
from celeriac.drivers.amqp.table import Properties, Received, decode_table, encode_table

TABLE: dict[str, Any] = {
    "none": None,
    "text": "värde",
    "task": "proj.add",
    "yes": True,
    "one": 1,
    "large": 1 << 40,
    "half": 0.5,
    "whole": 2.0,
    "list": [None, 1.5, "x", [True], {"a": None}],
    "timelimit": [None, None],
    "empty": {},
    "bytes": b"\xff\x00",
    "deep": {"a": {"b": [1, 2]}},
}


def test_a_table_comes_back_as_it_was() -> None:
    data = encode_table(TABLE)
    found, end = decode_table(data, 0)
    assert found == TABLE
    assert end == len(data)
    # 1 and True are one key of a dict, and yet two values.
    assert type(decode_table(encode_table({"yes": 1}), 0)[0]["yes"]) is int
    assert isinstance(found["whole"], float)


def test_pika_reads_what_we_write_and_we_what_pika_writes() -> None:
    known = {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "priority": 3,
        "correlation_id": "c",
        "reply_to": "r",
        "expiration": "1000",
        "message_id": "m",
    }
    headers = {"a": "b", "n": None, "l": [1, 2], "d": {"x": True}}
    theirs = spec.BasicProperties()
    theirs.decode(Properties.of(headers, known).packed)
    assert theirs.headers == headers
    assert {name: getattr(theirs, name) for name in known} == known
    written = spec.BasicProperties(headers=headers, delivery_mode=2, timestamp=9, **known)
    ours = Received(b"".join(written.encode()))
    assert ours.headers == headers
    assert {name: getattr(ours, name) for name in known} == known
    assert ours.delivery_mode == 2


@pytest.mark.parametrize("kind", [b"?", b""])
def test_properties_that_cannot_be_read_stop_nobody(kind: bytes) -> None:
    table = b"\x01a" + kind
    data = struct.pack(">HI", 0x2000, len(table)) + table
    assert Received(data).headers == {}


def frames_of(channel: int, tag: int, body: bytes, *, part: int = 1 << 17) -> bytes:
    """Return the frames in which the server pushes a message."""
    method = spec.Basic.Deliver("consumer", tag, False, "exchange", "key")
    properties = spec.BasicProperties(headers={"id": str(tag)})
    found: bytes = MethodFrame(channel, method).marshal()
    found += Header(channel, len(body), properties).marshal()
    for start in range(0, len(body), part):
        found += Body(channel, body[start : start + part]).marshal()
    return found


@pytest.fixture
def connection() -> Any:
    """Return a connection without a server: what it reads is given to it."""
    found = Connection.__new__(Connection)
    found.takers, found._begun = {}, {}
    found._frame_buffer, found.bytes_received, found.frames_received = b"", 0, 0
    return found


@pytest.mark.parametrize("chunk", [1, 7, 64, 100_000])
def test_messages_in_pieces(connection: Any, chunk: int) -> None:
    seen: list[Message] = []
    order: list[str] = []

    def take(batch: Sequence[Message]) -> None:
        seen.extend(batch)
        order.extend(["message"] * len(batch))

    def process(frame: Any) -> None:
        order.append(frame.method.NAME)

    connection.takers[1] = take
    connection._process_frame = process
    fence: bytes = MethodFrame(1, spec.Basic.QosOk()).marshal()
    bodies = [b"x" * 300, b"", b"y" * 5_000]
    data = b"".join(frames_of(1, n, body, part=4_000) for n, body in enumerate(bodies[:2], 1))
    data += fence + frames_of(1, 3, bodies[2], part=4_000)
    for start in range(0, len(data), chunk):
        connection._on_data_available(data[start : start + chunk])
    assert [one.body for one in seen] == bodies
    assert [one.tag for one in seen] == [1, 2, 3]
    assert [one.properties.headers for one in seen] == [{"id": "1"}, {"id": "2"}, {"id": "3"}]
    assert seen[0].consumer == "consumer"
    assert seen[0].key == "key"
    # An answer comes after what was pushed before it.
    assert order == ["message", "message", "Basic.QosOk", "message"]
    assert connection.bytes_received == len(data)
    assert connection._frame_buffer == b""


def test_acknowledgements_in_one_frame() -> None:
    said: list[tuple[int, bool]] = []
    channel = SimpleNamespace(
        connection=SimpleNamespace(),
        basic_ack=lambda tag, multiple=False: said.append((tag, multiple)),
    )
    acks = Acks()
    acks.write(channel, [2, 3])
    assert said == [(2, False), (3, False)]
    said.clear()
    # 1 was the last below 3: it alone is said, for 2 and 3 have been.
    acks.write(channel, [1, 5])
    assert said == [(1, True), (5, False)]
    said.clear()
    acks.write(channel, [4, 6, 7])
    assert said == [(7, True)]


def test_fractional_limits_are_celerys_too() -> None:
    """Read and written by py-amqp, on which Celery stands."""
    serialization = pytest.importorskip("amqp.serialization")
    headers = {"timelimit": [2.5, 1.0], "retries": 3, "shadow": None, "x": {"rate": 0.1}}
    data = encode_table(headers)
    assert serialization.loads("F", data, 0)[0][0] == headers
    written = serialization.dumps("F", [headers])
    assert decode_table(written, 0)[0] == headers
