"""What `accept_content` lets in.

Owns: Acceptance.  May import: kernel, codecs.
"""

from __future__ import annotations

from collections.abc import Sequence

from celeriac.codecs import find_codec
from celeriac.kernel.errors import ContentDisallowed


class Acceptance:
    """The content types of the codecs that `accept_content` names, and no others.

    :param names: names or content types.
    :raises ImproperlyConfigured: one is unknown, or its library is not installed.
    """

    def __init__(self, names: Sequence[str]) -> None:
        codecs = [find_codec(name) for name in names]
        self.names = tuple(codec.name for codec in codecs)
        self._types = frozenset(codec.content_type for codec in codecs)

    def check(self, content_type: str) -> None:
        """Let a content type pass.

        :raises ContentDisallowed: it is not accepted; the message says which setting to change.
        """
        if content_type not in self._types:
            accepted = ", ".join(self.names) or "nothing"
            raise ContentDisallowed(
                f"Refusing to deserialize disabled content of type {content_type!r:.100}: "
                f"accept_content (for results: result_accept_content) allows {accepted}; "
                f"add it there if you trust whoever can write to the broker"
            )
