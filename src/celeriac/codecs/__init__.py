"""Serializers and compressions by name or content type, imported on first use.

Owns: find_codec, register, register_type, find_compression.  May import: kernel, ports.
"""

from __future__ import annotations

import difflib
import importlib
from typing import Any

from celeriac.codecs.tags import register_type
from celeriac.kernel.errors import ImproperlyConfigured
from celeriac.ports.codec import Codec, Compression

__all__ = ("find_codec", "find_compression", "register", "register_type")

_BUILT_IN = {
    "json": ("application/json", "celeriac.codecs.json:JsonCodec"),
    "msgpack": ("application/x-msgpack", "celeriac.codecs.msgpack:MsgpackCodec"),
    "yaml": ("application/x-yaml", "celeriac.codecs.yaml:YamlCodec"),
    "pickle": ("application/x-python-serialize", "celeriac.codecs.pickle:PickleCodec"),
}
_COMPRESSIONS = {
    "gzip": ("application/x-gzip", "celeriac.codecs.compress:Gzip"),
    "zlib": ("application/x-gzip", "celeriac.codecs.compress:Gzip"),
    "bzip2": ("application/x-bz2", "celeriac.codecs.compress:Bzip2"),
    "bzip": ("application/x-bz2", "celeriac.codecs.compress:Bzip2"),
    "lzma": ("application/x-lzma", "celeriac.codecs.compress:Lzma"),
    "xz": ("application/x-lzma", "celeriac.codecs.compress:Lzma"),
    "zstd": ("application/zstd", "celeriac.codecs.compress:Zstd"),
    "zstandard": ("application/zstd", "celeriac.codecs.compress:Zstd"),
    "brotli": ("application/x-brotli", "celeriac.codecs.compress:Brotli"),
}

# By name and by content type.
_codecs: dict[str, Codec] = {}
_compressions: dict[str, Compression] = {}


def register(name: str, codec: Codec) -> None:
    """Make a codec known by `name` and by its content type, instead of what they stood for."""
    _codecs[name] = _codecs[codec.content_type] = codec


def find_codec(name: str) -> Codec:
    """Return the codec of a name or content type.

    :raises ImproperlyConfigured: there is none, or its library is not installed.
    """
    codec = _codecs.get(name)
    if codec is None:
        codec = _codecs[name] = _load("serializer", name, _BUILT_IN, list(_codecs))
    return codec


def find_compression(name: str) -> Compression:
    """Return the compression of a name or content type.

    :raises ImproperlyConfigured: there is none, or its library is not installed.
    """
    compression = _compressions.get(name)
    if compression is None:
        compression = _compressions[name] = _load("compression", name, _COMPRESSIONS, [])
    return compression


def _load(kind: str, name: str, table: dict[str, tuple[str, str]], more: list[str]) -> Any:
    for own, (content_type, path) in table.items():
        if name in (own, content_type):
            module, _, made = path.partition(":")
            return getattr(importlib.import_module(module), made)()
    known = sorted({*table, *(other for other in more if "/" not in other)})
    everything = [*known, *more, *(content_type for content_type, _ in table.values())]
    near = difflib.get_close_matches(str(name), everything, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ImproperlyConfigured(f"no {kind} is called {name!r}: known are {', '.join(known)}{hint}")
