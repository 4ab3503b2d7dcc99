"""Stamps: headers that a program puts on every task of a workflow, to find them again.

A stamp is an option of its own name; the option `stamped_headers` lists which those are.

Owns: StampingVisitor, merge, stamps_of, not_stamps.  May import: the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LISTED = "stamped_headers"


class StampingVisitor:
    """Says what each part of a workflow is stamped with; subclass it and override.

    Every method gets the part and the stamps collected so far, and returns those to add.  A
    returned `stamped_headers` names which of the keys are stamps; all of them where it is missing.
    """

    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        """Return the stamps of one task."""
        raise NotImplementedError("a StampingVisitor must say what a signature is stamped with")

    def on_group_start(self, group: Any, **headers: Any) -> dict[str, Any]:
        """Return the stamps of every task in a group."""
        return {}

    def on_group_end(self, group: Any, **headers: Any) -> None:
        """Called when a group is stamped."""

    def on_chain_start(self, chain: Any, **headers: Any) -> dict[str, Any]:
        """Return the stamps of every task in a chain."""
        return {}

    def on_chain_end(self, chain: Any, **headers: Any) -> None:
        """Called when a chain is stamped."""

    def on_chord_header_start(self, sig: Any, **header: Any) -> dict[str, Any]:
        """Return the stamps of every task in a chord's header; asks `on_group_start`."""
        return self.on_group_start(sig.header_group(), **header)

    def on_chord_header_end(self, sig: Any, **header: Any) -> None:
        """Called when a chord's header is stamped."""
        self.on_group_end(sig.header_group(), **header)

    def on_chord_body(self, sig: Any, **header: Any) -> dict[str, Any]:
        """Return the stamps of a chord's body."""
        return {}

    def on_callback(self, callback: Any, **header: Any) -> dict[str, Any]:
        """Return the stamps of a callback."""
        return {}

    def on_errback(self, errback: Any, **header: Any) -> dict[str, Any]:
        """Return the stamps of an errback."""
        return {}


def stamps_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stamps among options, with the list of their names."""
    names = options.get(LISTED)
    if not names:
        return {}
    return {LISTED: list(names), **{name: options[name] for name in names if name in options}}


def not_stamps(merged: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a visitor gave beside its stamps: headers of the message."""
    names = merged.get(LISTED) or ()
    return {name: merged[name] for name in merged if name != LISTED and name not in names}


def merge(
    headers: Mapping[str, Any],
    found: Mapping[str, Any] | None,
    own: Mapping[str, Any] | None,
    *,
    append: bool,
) -> dict[str, Any]:
    """Return three sets of stamps as one: the visitor's beat what came from above, own ones stay.

    :param headers: from the call and the parts around it.
    :param found: what the visitor said.
    :param own: what the signature has already.
    :param append: keep all values of a stamp, as a list.
    """
    merged: dict[str, Any] = {}
    for source in (own, headers, found):
        if not source:
            continue
        names = source.get(LISTED)
        names = [name for name in source if name != LISTED] if names is None else names
        listed = merged.setdefault(LISTED, [])
        listed += [name for name in names if name not in listed]
        for name, value in source.items():
            if name == LISTED:
                continue
            if append and name in merged and merged[name] != value:
                merged[name] = [*_many(merged[name]), *_new(value, merged[name])]
            else:
                merged[name] = value
    merged.setdefault(LISTED, [])
    return merged


def _many(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple, set)) else [value]


def _new(value: Any, there: Any) -> list[Any]:
    known = _many(there)
    return [one for one in _many(value) if one not in known]
