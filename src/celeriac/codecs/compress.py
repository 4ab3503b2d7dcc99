"""Compressions as kombu writes and reads them, with a hard limit on what comes out.

Owns: Gzip, Bzip2, Lzma, Zstd, Brotli.  May import: kernel; brotli, backports.zstd (extras).
"""

from __future__ import annotations

import importlib
import zlib
from types import ModuleType
from typing import Any

from celeriac.kernel.errors import DecodeError, ImproperlyConfigured

_LZMA_MEMORY = 128 * 1024 * 1024


def _library(*names: str, install: str) -> ModuleType:
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ImproperlyConfigured(f"this compression needs {names[-1]}: {install}")


class _Streamed:
    """What decompresses with an object of the standard library's shape."""

    name: str
    content_type: str
    _errors: tuple[type[Exception], ...]

    def _reader(self) -> Any:
        raise NotImplementedError

    def decompress(self, data: bytes, *, limit: int) -> bytes:
        """Return what was compressed.

        :raises DecodeError: broken or cut data, or more than `limit` bytes.
        """
        reader = self._reader()
        errors: tuple[type[Exception], ...] = (*self._errors, EOFError, ValueError)
        try:
            # One byte more than allowed tells "too large" from "just fits".
            result: bytes = reader.decompress(data, limit + 1)
        except errors as error:
            raise DecodeError(f"broken {self.name} data: {error}") from error
        if len(result) > limit:
            raise _too_large(self.name, limit)
        if not reader.eof or reader.unused_data:
            raise DecodeError(f"{self.name} data that is cut off, or has something after its end")
        return result


def _too_large(name: str, limit: int) -> DecodeError:
    return DecodeError(f"{name} data of more than {limit} bytes when decompressed")


class Gzip(_Streamed):
    """What kombu calls gzip: a zlib stream.  A true gzip stream is read too."""

    name = "gzip"
    content_type = "application/x-gzip"
    _errors = (zlib.error,)

    def compress(self, data: bytes) -> bytes:
        """Return `data`, smaller."""
        return zlib.compress(data)

    def _reader(self) -> Any:
        return zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)


class Bzip2(_Streamed):
    """Slow and small."""

    name = "bzip2"
    content_type = "application/x-bz2"
    _errors = (OSError,)

    def __init__(self) -> None:
        self._bz2: Any = _library("bz2", install="a Python that was built with it")

    def compress(self, data: bytes) -> bytes:
        """Return `data`, smaller."""
        result: bytes = self._bz2.compress(data)
        return result

    def _reader(self) -> Any:
        return self._bz2.BZ2Decompressor()


class Lzma(_Streamed):
    """Slowest and smallest: an xz stream, as kombu writes it."""

    name = "lzma"
    content_type = "application/x-lzma"

    def __init__(self) -> None:
        self._lzma: Any = _library("lzma", install="a Python that was built with it")
        self._errors = (self._lzma.LZMAError,)

    def compress(self, data: bytes) -> bytes:
        """Return `data`, smaller."""
        result: bytes = self._lzma.compress(data)
        return result

    def _reader(self) -> Any:
        # A header may ask for gigabytes of dictionary.
        return self._lzma.LZMADecompressor(memlimit=_LZMA_MEMORY)


class Zstd(_Streamed):
    """Fast and small: the one to choose."""

    name = "zstd"
    content_type = "application/zstd"

    def __init__(self) -> None:
        self._zstd: Any = _library(
            "compression.zstd", "backports.zstd", install="pip install 'celeriac[zstd]'"
        )
        self._errors = (self._zstd.ZstdError,)

    def compress(self, data: bytes) -> bytes:
        """Return `data`, smaller."""
        result: bytes = self._zstd.compress(data)
        return result

    def _reader(self) -> Any:
        return self._zstd.ZstdDecompressor()


class Brotli:
    """Made for the web."""

    name = "brotli"
    content_type = "application/x-brotli"

    def __init__(self) -> None:
        self._brotli: Any = _library("brotli", install="pip install 'celeriac[brotli]'")

    def compress(self, data: bytes) -> bytes:
        """Return `data`, smaller."""
        result: bytes = self._brotli.compress(data)
        return result

    def decompress(self, data: bytes, *, limit: int) -> bytes:
        """Return what was compressed.

        :raises DecodeError: broken or cut data, or more than `limit` bytes.
        """
        reader = self._brotli.Decompressor()
        parts: list[bytes] = []
        room = limit
        try:
            while not reader.is_finished():
                part = reader.process(data, output_buffer_limit=min(room + 1, 1 << 20))
                data = b""
                room -= len(part)
                if room < 0:
                    raise _too_large(self.name, limit)
                if not part and not reader.is_finished() and reader.can_accept_more_data():
                    raise DecodeError("brotli data that is cut off")
                parts.append(part)
        except self._brotli.error as error:
            raise DecodeError(f"broken brotli data: {error}") from error
        return b"".join(parts)
