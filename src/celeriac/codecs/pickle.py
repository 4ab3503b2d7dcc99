"""Pickle: any Python object, and any code that its writer wants to run here.

Owns: PickleCodec.  May import: kernel.
"""

from __future__ import annotations

import pickle as _pickle
from typing import Any

from celeriac.kernel.errors import DecodeError, EncodeError


class PickleCodec:
    """Python's own format.  Refused unless `accept_content` names it."""

    name = "pickle"
    content_type = "application/x-python-serialize"
    content_encoding = "binary"
    trusted_only = True

    def dumps(self, value: object) -> bytes:
        """Encode.

        :raises EncodeError: something in it cannot be pickled.
        """
        try:
            return _pickle.dumps(value, protocol=4)
        except Exception as error:  # users' __reduce__
            raise EncodeError(f"a {type(value).__name__} cannot be pickled: {error}") from error

    def loads(self, data: bytes) -> Any:
        """Decode.

        :raises DecodeError: not a pickle, or of classes that are not here.
        """
        try:
            return _pickle.loads(data)
        except Exception as error:  # users' __setstate__
            raise DecodeError(f"not a pickle that can be read: {error!r:.500}") from error
