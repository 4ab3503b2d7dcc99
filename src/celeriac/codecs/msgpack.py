"""MessagePack, with JSON's strictness and the same tags for what it has no word for.

Owns: MsgpackCodec.  May import: kernel, codecs.tags.
"""

from __future__ import annotations

from typing import Any

import msgspec

from celeriac.codecs.tags import restore_all, tagged
from celeriac.kernel.errors import DecodeError, EncodeError
from celeriac.kernel.plain import is_plain

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_MARK = b"__type__"


class MsgpackCodec:
    """Smaller than JSON, and carries bytes as they are; keys are texts, as kombu's reader wants."""

    name = "msgpack"
    content_type = "application/x-msgpack"
    content_encoding = "binary"
    trusted_only = False

    def dumps(self, value: object) -> bytes:
        """Encode.

        :raises EncodeError: names the path and type of what cannot be carried.
        """
        if is_plain(value):
            try:
                data = _encode(value)
            except (ValueError, OverflowError, RecursionError):
                pass  # the slow way says where
            else:
                if _MARK not in data:
                    return data
        try:
            return _encode(tagged(value, binary=True))
        except EncodeError:
            raise
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise EncodeError(f"cannot be written as MessagePack: {error}") from error

    def loads(self, data: bytes) -> Any:
        """Decode.

        :raises DecodeError: not MessagePack, nested too deeply, or an unknown tag.
        """
        try:
            value = _decode(data)
            return restore_all(value) if _MARK in data else value
        except RecursionError:
            raise DecodeError("MessagePack that is nested too deeply") from None
        except Exception as error:  # decoders are users' code
            raise DecodeError(f"not MessagePack that can be read: {error}") from error
