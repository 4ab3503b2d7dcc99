"""Messages that are no tasks, or not this worker's: buried with a reason, and the worker goes on."""

from __future__ import annotations

import gzip
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.kernel.ids import uuid
from celeriac.kernel.message import Envelope
from celeriac.kernel.wire import Headers, pack
from celeriac.testing import TaskKit, running_worker
from celeriac.testing.eventually import eventually


def framed(head: bytes, payload: bytes = b"[[],{},null]") -> bytes:
    """Return a frame around headers that may be anything."""
    return b"\x01" + len(head).to_bytes(4, "big") + head + payload


def headers(**changes: Any) -> bytes:
    """Return right headers, but for changes."""
    return json.dumps({"task": "add", "id": "the-id", **changes}).encode()


def call(payload: bytes, **changes: Any) -> bytes:
    """Return the frame of a call of `add` with these bytes as its payload."""
    return pack(Headers("add", "the-id", **changes), payload)


NAN = b"[[NaN, 1], {}, null]"
ZOO: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "WireError"),
    "not a frame": (lambda: b"hello, is this a queue?", "WireError"),
    "cut off": (lambda: framed(headers())[:30], "WireError"),
    "length out of range": (lambda: b"\x01\xff\xff\xff\xff{}", "WireError"),
    "headers are no JSON": (lambda: framed(b"{not json"), "WireError"),
    "headers are a list": (lambda: framed(b"[]"), "WireError"),
    "no task": (lambda: framed(b'{"id": "the-id"}'), "WireError"),
    "no id": (lambda: framed(b'{"task": "add"}'), "WireError"),
    "task is a number": (lambda: framed(headers(task=5)), "WireError"),
    "headers are no UTF-8": (lambda: framed(b'{"task": "\xff\xfe", "id": "x"}'), "WireError"),
    "headers nested deep": (
        lambda: framed(
            b'{"task":"add","id":"x","extra":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001
        ),
        "WireError",
    ),
    "eta is no date": (lambda: framed(headers(eta="soon")), "WireError"),
    "expires is no date": (lambda: framed(headers(expires="13th month")), "WireError"),
    "timelimit is text": (lambda: framed(headers(timelimit="long")), "WireError"),
    "payload is no JSON": (lambda: call(b"[[1, 2"), "DecodeError"),
    "payload is empty": (lambda: call(b""), "DecodeError"),
    "payload is no UTF-8": (lambda: call(b'[["\xff\xfe\xfa", 1], {}, null]'), "DecodeError"),
    "payload nested 10,000 deep": (
        lambda: call(b"[[" + b"[" * 10_000 + b"]" * 10_000 + b", 1], {}, null]"),
        "DecodeError",
    ),
    "payload of 50 MB": (lambda: call(b"x" * 50_000_000), "DecodeError"),
    "payload is a number": (lambda: call(b"5"), "InvalidTaskError"),
    "payload has one part": (lambda: call(b"[[1, 2]]"), "InvalidTaskError"),
    "args are a number": (lambda: call(b"[5, {}, null]"), "InvalidTaskError"),
    "kwargs are a list": (lambda: call(b"[[1, 2], [], null]"), "InvalidTaskError"),
    "pickle is refused": (
        lambda: call(
            pickle.dumps(([1, 2], {}, None)), content_type="application/x-python-serialize"
        ),
        "ContentDisallowed",
    ),
    "an unknown codec": (
        lambda: call(b"[[1, 2], {}, null]", content_type="application/x-nothing"),
        "ContentDisallowed",
    ),
    "an unknown compression": (
        lambda: call(b"[[1, 2], {}, null]", compression="application/x-nothing"),
        "",
    ),
    "broken compression": (
        lambda: call(b"\x1f\x8bxxx", compression="application/x-gzip"),
        "DecodeError",
    ),
    "a bomb": (
        lambda: call(
            gzip.compress(b'["' + b"x" * 400_000_000, 1), compression="application/x-gzip"
        ),
        "DecodeError",
    ),
    "too few arguments": (lambda: call(b"[[1], {}, null]"), "InvalidTaskError"),
    "too many arguments": (lambda: call(b"[[1, 2, 3], {}, null]"), "InvalidTaskError"),
    "an unknown argument": (lambda: call(b'[[1, 2], {"z": 1}, null]'), "InvalidTaskError"),
    "an argument that is no name": (lambda: call(b'[[1, 2], {"": 1}, null]'), "InvalidTaskError"),
    "delivered too often": (lambda: call(b"[[1, 2], {}, null]"), "WorkerLostError"),
}


@pytest.fixture
def add(app: Celeriac) -> Any:
    @app.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    return add


@pytest.mark.parametrize("kind", ZOO)
def test_each_is_buried_with_a_reason(
    app: Celeriac, kit: TaskKit, add: Any, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    make, expected = ZOO[kind]
    task_id = uuid()
    kit.broker.publish([Envelope(task_id, "celery", make())])
    if kind == "delivered too often":
        with kit.settings(task_max_deliveries=1):
            kit.crash_before_settle()
            kit.run_until_empty(failures="keep")
    with caplog.at_level("INFO", "celeriac.task"):
        kit.run_until_empty(failures="keep")
        if kind != "delivered too often":
            lines = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
            assert len(lines) == 1, "one clear line"
            assert task_id in lines[0]
            assert len(lines[0]) < 1500
    [buried] = kit.buried()
    assert buried.envelope.id == task_id
    if kind != "delivered too often":
        assert buried.reason.startswith(expected)
    result = app.AsyncResult(task_id)
    assert result.state == "FAILURE"
    assert add.delay(1, 2).get() == 3, "and the worker goes on"


def test_a_real_worker_goes_on(app: Celeriac, add: Any, caplog: pytest.LogCaptureFixture) -> None:
    with running_worker(app, pool="solo"):
        zoo = [
            Envelope(f"bad-{n}", "celery", make())
            for n, (kind, (make, _)) in enumerate(ZOO.items())
            if kind != "delivered too often"
        ]
        app.broker.publish(zoo)
        assert add.delay(1, 2).get(timeout=60) == 3
        eventually(lambda: len(app.broker.buried(limit=1000)) == len(zoo), within=60)
        assert {buried.envelope.id for buried in app.broker.buried(limit=1000)} == {
            envelope.id for envelope in zoo
        }
    assert "died" not in caplog.text


def test_what_was_buried_can_be_sent_again(app: Celeriac, kit: TaskKit) -> None:
    app.task(name="add")(lambda x: x)
    kit.broker.publish([Envelope("the-id", "celery", call(b"[[1, 2], {}, null]"))])
    kit.run_until_empty(failures="keep")
    assert len(kit.buried()) == 1
    del app.tasks["add"]
    app.task(name="add")(lambda x, y: x + y)
    app.conf.task_max_deliveries = 4  # any change makes a new execution
    assert list(kit.broker.requeue(["the-id"])) == ["the-id"]
    kit.run_until_empty()
    assert kit.buried() == []


# -- tasks that this worker does not know ---------------------------------------------------------


def test_an_unknown_task_is_parked_longer_and_longer(app: Celeriac, kit: TaskKit) -> None:
    with kit.settings(task_unknown_delay=1.0, task_unknown_patience=3600.0):
        result = app.send_task("not.yet", (1,))
        waits = []
        for _ in range(8):
            [ran] = kit.run_until_empty(failures="keep")
            assert ran.verdict == "retry"
            [waiting] = kit.waiting()
            assert waiting.eta is not None
            waits.append(round(waiting.eta.timestamp() - kit.clock.time()))
            kit.clock.advance_to(waiting.eta)
        assert waits == [1, 2, 4, 8, 10, 10, 10, 10]
        assert result.state == "PENDING"
        assert [one.args for one in kit.waiting()] == [[1]]


def test_an_unknown_task_is_run_by_who_knows_it(app: Celeriac, kit: TaskKit) -> None:
    result = app.send_task("not.yet", (1,))
    kit.run_until_empty(failures="keep")
    app.task(name="not.yet")(lambda x: x * 2)
    kit.clock.advance(1)
    kit.run_until_empty()
    assert result.get() == 2
    assert kit.ran[-1].retries == 0, "being parked is no retry"


def test_an_unknown_task_is_buried_after_patience(app: Celeriac, kit: TaskKit) -> None:
    with kit.settings(task_unknown_delay=1.0, task_unknown_patience=10.0):
        result = app.send_task("never")
        begun = kit.clock.time()
        while not kit.buried():
            kit.run_until_empty(failures="keep")
            for waiting in kit.waiting():
                assert waiting.eta is not None
                kit.clock.advance_to(waiting.eta)
        assert 9.9 <= kit.clock.time() - begun <= 10.2
    [buried] = kit.buried()
    assert "never" in buried.reason
    assert "NotRegistered" in buried.reason
    assert result.state == "FAILURE"
