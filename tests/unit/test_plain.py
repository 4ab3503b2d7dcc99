"""The scan that tells whether a value is JSON as it stands."""

from __future__ import annotations

import collections
import decimal
import enum
import math

import pytest

from celeriac.kernel.plain import MAX_DEPTH, is_plain


class Word(str):  # noqa: SLOT000
    pass


class Kind(enum.IntEnum):
    A = 1


@pytest.mark.parametrize(
    "value", [None, True, 0, -(10**30), 1.5, "", "é", [], {}, (), [1, [2, {"a": (3,)}]]]
)
def test_plain(value: object) -> None:
    assert is_plain(value)


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, b"", set(), Word("a"), Kind.A, {1: 2}, {Word("a"): 1},
     collections.OrderedDict(a=1), decimal.Decimal(1), object(), [1, [math.nan]], {"a": {"b": b""}},
     {None: 1}, bytearray(), (1, {2})],
)  # fmt: skip
def test_not_plain(value: object) -> None:
    assert not is_plain(value)


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


def test_depth() -> None:
    assert is_plain(nested(MAX_DEPTH))
    assert not is_plain(nested(MAX_DEPTH + 1))
    assert not is_plain(nested(100_000))
    assert not is_plain(nested(3), 2)
    itself: list[object] = []
    itself.append(itself)
    assert not is_plain(itself)
