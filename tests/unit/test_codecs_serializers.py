"""The serializers: what goes in comes out, or it raises."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import math
import pickle
import sys
import types
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.utils import json as kombu_json

from celeriac.codecs import find_codec, register, register_type
from celeriac.codecs.accept import Acceptance
from celeriac.kernel.errors import (
    ContentDisallowed,
    DecodeError,
    EncodeError,
    ImproperlyConfigured,
)

JSON, MSGPACK, YAML = find_codec("json"), find_codec("msgpack"), find_codec("yaml")
BOTH = pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=lambda codec: codec.name)

zones = st.sampled_from([None, dt.UTC, dt.timezone(dt.timedelta(hours=-3, minutes=30))])
atoms = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary()
    | st.text(st.characters(exclude_categories=())) | st.datetimes(timezones=zones)
    | st.dates() | st.times(timezones=zones) | st.decimals(allow_nan=False) | st.uuids()
)  # fmt: skip
odd = st.timedeltas() | st.complex_numbers() | st.frozensets(st.integers(), min_size=1)
keys = st.text(max_size=5) | st.sampled_from(["__type__", "__value__"])
values = st.recursive(
    atoms | odd,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(st.integers() | st.none(), inner, max_size=2)
    ),
    max_leaves=12,
)


def same(before: Any, after: Any) -> bool:
    """Compare, with the one documented exception: a tuple comes back as a list."""
    if isinstance(before, (list, tuple)):
        return type(after) is list and len(before) == len(after) and all(map(same, before, after))
    if isinstance(before, dict):
        return before.keys() == after.keys() and all(same(before[k], after[k]) for k in before)
    if type(before) is not type(after):
        return False
    return before == after or (before != before and after != after)


@pytest.mark.parametrize("codec", [JSON, MSGPACK, YAML], ids=lambda codec: codec.name)
@given(value=values)
def test_what_goes_in_comes_out_or_raises(codec: Any, value: Any) -> None:
    try:
        data = codec.dumps(value)
    except EncodeError:
        return
    assert same(value, codec.loads(data))


@given(value=values)
def test_kombu_reads_what_is_written_and_the_reverse(value: Any) -> None:
    try:
        data = JSON.dumps(value)
    except EncodeError:
        return
    assert same(value, kombu_json.loads(data))
    assert same(value, JSON.loads(kombu_json.dumps(value).encode()))


@pytest.mark.parametrize("codec", [JSON, MSGPACK, YAML], ids=lambda codec: codec.name)
@given(data=st.binary(max_size=60))
def test_garbage_is_decoded_or_refused(codec: Any, data: bytes) -> None:
    try:
        codec.loads(data)
    except DecodeError:
        pass


# What kombu 5.7 writes.
GOLDEN = [
    (dt.datetime(2026, 1, 2, 3, 4, 5, 6, dt.UTC), "datetime", "2026-01-02T03:04:05.000006+00:00"),
    (dt.datetime(2026, 1, 2), "datetime", "2026-01-02T00:00:00"),
    (dt.date(2026, 1, 2), "date", "2026-01-02"),
    (dt.time(3, 4, 5), "time", "03:04:05"),
    (decimal.Decimal("1.50"), "decimal", "1.50"),
    (uuid.UUID(int=1), "uuid", {"hex": "00000000000000000000000000000001"}),
    ("é".encode(), "bytes", "é"),
    (b"\xff", "base64", "/w=="),
]


@pytest.mark.parametrize(("value", "marker", "text"), GOLDEN)
def test_golden(value: object, marker: str, text: object) -> None:
    data = JSON.dumps([value])
    assert data == kombu_json.dumps([value]).encode()
    assert data == kombu_json.dumps([{"__type__": marker, "__value__": text}]).encode()
    assert JSON.loads(data) == [value]


class Color(str, enum.Enum):  # noqa: UP042 - whose str() is "Color.RED"
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Plain(enum.Enum):
    A = 1


class Word(str):  # noqa: SLOT000
    pass


Point = collections.namedtuple("Point", "x y")


class Described:
    def __json__(self) -> Any:
        return {"when": dt.date(2026, 1, 1)}


class Broken:
    def __json__(self) -> Any:
        raise RuntimeError("no")


@BOTH
@pytest.mark.parametrize(
    ("value", "read"),
    [
        (Word("a"), "a"), (Color.RED, "red"), (Level.LOW, 1), (Point(1, 2), [1, 2]),
        (collections.OrderedDict(a=1), {"a": 1}), ({Word("k"): (1,)}, {"k": [1]}),
        (Described(), {"when": dt.date(2026, 1, 1)}), (math.inf, math.inf),
    ],
)  # fmt: skip
def test_carried_as_their_base(codec: Any, value: object, read: object) -> None:
    after = codec.loads(codec.dumps({"v": value}))["v"]
    assert after == read
    assert type(after) is type(read)


@BOTH
def test_lazy_strings(codec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Promise:
        def __str__(self) -> str:
            return "hello"

    functional = types.ModuleType("django.utils.functional")
    functional.Promise = Promise  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "django.utils.functional", functional)
    assert codec.loads(codec.dumps([Promise()])) == ["hello"]


@BOTH
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([{"when": {1}}], ["[0].when", "set"]),
        ({"a b": [1, dt.timedelta(1)]}, ["['a b'][1]", "timedelta"]),
        ({"a": {1: 2}}, ["a:", "int key 1"]),
        ({"a": Plain.A}, ["a:", "a Plain"]),
        ([Broken()], ["[0]", "a Broken", "no"]),
        (object(), ["the value", "a object"]),
        (bytearray(b"a"), ["bytearray"]),
        ([{"__type__": "datetime", "__value__": "x"}], ["[0]", "__type__"]),
        (Described, ["a type"]),
        ("\ud83d\ude00", ["surrogate"]),
    ],
)
def test_refused_with_path_and_type(codec: Any, value: object, words: list[str]) -> None:
    with pytest.raises(EncodeError) as caught:
        codec.dumps(value)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize("codec", [JSON, MSGPACK, YAML], ids=lambda codec: codec.name)
@pytest.mark.parametrize("depth", [10_000, 100_000])
def test_too_deep_to_write(codec: Any, depth: int) -> None:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    with pytest.raises(EncodeError, match="nested"):
        codec.dumps(value)


@pytest.mark.parametrize(
    ("codec", "data"),
    [
        (JSON, b"[" * 10_000 + b"]" * 10_000), (JSON, b'{"__type__":' * 10_000),
        (MSGPACK, b"\x91" * 10_000 + b"\xc0"), (YAML, b"[" * 10_000 + b"]" * 10_000),
    ],
)  # fmt: skip
def test_too_deep_to_read(codec: Any, data: bytes) -> None:
    with pytest.raises(DecodeError):
        codec.loads(data)


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b'"\xff"', b'{"__type__": "no", "__value__": 1}', b"[1", b"1 2",
             b'{"__type__": [], "__value__": 1}', b'{"__type__": "date", "__value__": 1}',
             b"9" * 5000, "[1]".encode("utf-16")],
)  # fmt: skip
def test_bad_json(data: bytes) -> None:
    with pytest.raises(DecodeError):
        JSON.loads(data)


def test_what_only_the_standard_library_reads() -> None:
    assert JSON.loads(b"1e400") == math.inf
    assert math.isnan(JSON.loads(b"NaN"))
    assert JSON.loads(b'"\\ud800"') == "\ud800"


def test_bytes_are_bytes_in_msgpack() -> None:
    assert MSGPACK.dumps(b"\xff") == b"\xc4\x01\xff"


def test_yaml_aliases_that_explode() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(DecodeError, match="aliases"):
        YAML.loads("\n".join(lines).encode())


def test_yaml_runs_no_code() -> None:
    with pytest.raises(DecodeError):
        YAML.loads(b"!!python/object/apply:os.getcwd []")


def test_yaml_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    monkeypatch.delitem(sys.modules, "celeriac.codecs.yaml")
    monkeypatch.setattr("celeriac.codecs._codecs", {})
    with pytest.raises(ImproperlyConfigured, match=r"celeriac\[yaml\]"):
        find_codec("yaml")


def test_pickle() -> None:
    codec = find_codec("pickle")
    value = {1: {2}, "a": dt.timedelta(1), "t": (1,)}
    assert codec.trusted_only
    assert codec.loads(codec.dumps(value)) == value
    with pytest.raises(EncodeError):
        codec.dumps(lambda: 1)
    for data in (b"", b"x", pickle.dumps(value)[:-3], b"cno.such\nname\n."):
        with pytest.raises(DecodeError):
            codec.loads(data)


def test_register_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celeriac.codecs.tags._encoders", {})
    monkeypatch.setattr("celeriac.codecs.tags._decoders", {})
    register_type(complex, "complex", lambda c: [c.real, c.imag], lambda pair: complex(*pair))
    register_type(dt.timedelta, None, lambda delta: delta.total_seconds())
    for codec in (JSON, MSGPACK):
        assert codec.loads(codec.dumps([1j, dt.timedelta(1)])) == [1j, 86400.0]


def test_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_codec("application/json") is not None
    assert find_codec("application/x-msgpack").name == "msgpack"
    with pytest.raises(ImproperlyConfigured, match="did you mean 'json'"):
        find_codec("jsn")
    monkeypatch.setattr("celeriac.codecs._codecs", {})

    class Shout:
        name, content_type = "shout", "text/shout"

    shout: Any = Shout()
    register("shout", shout)
    assert find_codec("shout") is find_codec("text/shout") is shout


def test_acceptance() -> None:
    accepted = Acceptance(["json", "application/x-yaml"])
    accepted.check("application/json")
    accepted.check("application/x-yaml")
    with pytest.raises(ContentDisallowed, match="accept_content"):
        accepted.check("application/x-python-serialize")
    with pytest.raises(ContentDisallowed):
        Acceptance([]).check("application/json")
    Acceptance(["pickle"]).check("application/x-python-serialize")
    with pytest.raises(ImproperlyConfigured, match="did you mean 'pickle'"):
        Acceptance(["pikle"])
