"""The scan that tells whether a value is JSON as it stands.

Owns: is_plain, MAX_DEPTH.  May import: the standard library only.
"""

from __future__ import annotations

MAX_DEPTH = 500
"""Lists and dicts inside each other that a codec carries: readers recurse, and Python stops at 1000."""

_ATOMS = frozenset((str, int, bool, type(None)))


def is_plain(value: object, limit: int = MAX_DEPTH) -> bool:
    """Tell whether `value` is made of JSON's own types only and nested at most `limit` deep.

    A tuple is plain and comes back as a list, as in Celery.  Subclasses are not plain, nor are
    NaN and infinity.  Lone surrogates in texts are not looked for: the encoder refuses them.
    """
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind is float:
        return bool(value - value == 0.0)  # type: ignore[operator]  # False for NaN and infinity
    if limit <= 0:
        return False
    if kind is dict:
        for key in value:  # type: ignore[attr-defined]
            if type(key) is not str:
                return False
        value = value.values()  # type: ignore[attr-defined]
    elif kind is not list and kind is not tuple:
        return False
    limit -= 1
    # Atoms are passed over here: a call for each would cost three times the whole scan.
    for item in value:  # type: ignore[attr-defined]
        if type(item) not in _ATOMS and not is_plain(item, limit):
            return False
    return True
