"""JSON as kombu writes and reads it: plain values through msgspec, others with tagged types.

Owns: JsonCodec.  May import: kernel, codecs.tags.
"""

from __future__ import annotations

import json as _json
from typing import Any

import msgspec

from celeriac.codecs.tags import restore, tagged
from celeriac.kernel.errors import DecodeError, EncodeError
from celeriac.kernel.plain import is_plain

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
# With its quotes: in the middle of a text these would be escaped.
_MARK = b'"__type__"'


class JsonCodec:
    """Celery's default serializer.  Tuples come back as lists; whatever else changed is refused."""

    name = "json"
    content_type = "application/json"
    content_encoding = "utf-8"
    trusted_only = False

    def dumps(self, value: object) -> bytes:
        """Encode.

        :raises EncodeError: names the path and type of what cannot be carried.
        """
        if is_plain(value):
            try:
                data = _encode(value)
            except (ValueError, RecursionError):
                pass  # a lone surrogate or a very long integer: the slow way says more, or does it
            else:
                if _MARK not in data:
                    return data
        try:
            return _json.dumps(tagged(value, binary=False)).encode("ascii")
        except EncodeError:
            raise
        except (TypeError, ValueError, RecursionError) as error:
            raise EncodeError(f"cannot be written as JSON: {error}") from error

    def loads(self, data: bytes) -> Any:
        """Decode.

        :raises DecodeError: not JSON, not UTF-8, nested too deeply, or an unknown tag.
        """
        if _MARK not in data:
            try:
                return _decode(data)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                pass  # what only the standard library reads: NaN, 1e400, lone surrogates
        try:
            # Decoded here: json.loads would guess at UTF-16 and let surrogates pass.
            return _json.loads(str(data, "utf-8"), object_hook=restore)
        except RecursionError:
            raise DecodeError("JSON that is nested too deeply") from None
        except Exception as error:  # decoders are users' code
            raise DecodeError(f"not JSON that can be read: {error}") from error
