"""What may be shown: passwords out of URLs, and representations of bounded size.

Owns: redact_url, is_secret, bounded_repr.  May import: the standard library only.
"""

from __future__ import annotations

import re
import reprlib

_USERINFO = re.compile(r"(://[^/@:\s]*):[^/\s]*@")
_QUERY = re.compile(r"([?&](?:password|secret|token|key)=)[^&\s]*", re.IGNORECASE)
_SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|(?<!ROUTING_)KEY$|CERTIFICATE", re.IGNORECASE)


def redact_url(url: str) -> str:
    """Return a URL, or several joined by `;`, with passwords shown as `**`."""
    return _QUERY.sub(r"\1**", _USERINFO.sub(r"\1:**@", url))


def is_secret(name: str) -> bool:
    """Return whether a setting's value must not be shown."""
    return bool(_SECRET.search(name))


class _Bounded(reprlib.Repr):
    def __init__(self, limit: int) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = 20
        self.maxstring = self.maxother = self.maxlong = limit

    def repr_str(self, x: str, level: int) -> str:
        return super().repr_str(x[: 2 * self.maxstring], level) if len(x) else repr(x)


def bounded_repr(value: object, limit: int = 1024) -> str:
    """Return a representation of at most about `limit` characters; never raises."""
    try:
        text = _Bounded(limit).repr(value)
    except Exception as error:  # a user's __repr__ may raise anything
        text = f"<{type(value).__name__}: its repr raised {type(error).__name__}>"
    return text if len(text) <= limit else text[: limit - 3] + "..."
