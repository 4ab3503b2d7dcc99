"""Compressions: as kombu's, and never more than the limit."""

from __future__ import annotations

import gzip
import os
import sys

import pytest
from kombu import compression as kombu_compression

from celeriac.codecs import find_compression
from celeriac.kernel.errors import DecodeError, ImproperlyConfigured

NAMES = pytest.mark.parametrize("name", ["gzip", "bzip2", "lzma", "zstd", "brotli"])
DATA = [b"", b"a", b"a" * 100_000, os.urandom(70_000)]


@NAMES
@pytest.mark.parametrize("data", DATA, ids=len)
def test_both_ways_with_kombu(name: str, data: bytes) -> None:
    ours = find_compression(name)
    theirs, content_type = kombu_compression.compress(data, name)
    assert content_type == ours.content_type
    assert find_compression(content_type).decompress(theirs, limit=len(data)) == data
    assert kombu_compression.decompress(ours.compress(data), content_type) == data


@NAMES
def test_bomb(name: str) -> None:
    codec = find_compression(name)
    bomb = codec.compress(b"\0" * 50_000_000)
    for limit in (0, 1, 1000, 49_999_999):
        with pytest.raises(DecodeError, match=f"more than {limit} bytes"):
            codec.decompress(bomb, limit=limit)


@NAMES
@pytest.mark.parametrize("data", DATA, ids=len)
def test_cut_or_garbled(name: str, data: bytes) -> None:
    codec = find_compression(name)
    packed = codec.compress(data)
    for cut in {0, len(packed) // 2, len(packed) - 1}:
        with pytest.raises(DecodeError):
            codec.decompress(packed[:cut], limit=1_000_000)
    for garbage in (packed + b"more", b"\xff" * 20):
        with pytest.raises(DecodeError):
            codec.decompress(garbage, limit=1_000_000)


def test_true_gzip_is_read() -> None:
    assert find_compression("gzip").decompress(gzip.compress(b"a"), limit=1) == b"a"


@pytest.mark.parametrize(
    ("name", "modules"), [("brotli", ["brotli"]), ("zstd", ["compression.zstd", "backports.zstd"])]
)
def test_missing(name: str, modules: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("celeriac.codecs._compressions", {})
    with pytest.raises(ImproperlyConfigured, match=rf"celeriac\[{name}\]"):
        find_compression(name)


def test_unknown() -> None:
    with pytest.raises(ImproperlyConfigured, match="did you mean 'zstd'"):
        find_compression("zsdt")
