"""Task states and chord counts: what the engine asks of a result store.

The contract is `celeriac.testing.contract.results`.

Owns: ResultBackend, GrowingGroups, Watch.  May import: kernel, ports.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from celeriac.kernel.message import Group, Part, Ready, Record
from celeriac.ports.caps import Capabilities


class Watch(Protocol):
    """One waiter for any number of results.

    Thread rule: `poll` belongs to one thread; the others may be called from any.
    """

    def add(self, ids: Sequence[str]) -> None:
        """Watch these too; a waiting `poll` looks at them at once."""
        ...

    def discard(self, ids: Sequence[str]) -> None:
        """Watch these no longer."""
        ...

    def poll(self, wait: float) -> Mapping[str, Record]:
        """Block until a watched id is final, `wait` seconds have passed, or `add` was called.

        Return the final ones; they are no longer watched.
        """
        ...

    def close(self) -> None:
        """Let go of what the watch holds."""
        ...


class ResultBackend(Protocol):
    """Task states and chord counts.  Every write may be repeated.

    Raises only BrokerUnavailable (try again) and BrokerRejected (do not).
    Thread rule: every method may be called from any thread.
    """

    caps: Capabilities
    name: str
    """What `caps.settles_with` of a broker says of this store, e.g. `sqlite:/path/to/file`."""

    def open(self) -> None:
        """Connect and check; a second call does nothing."""
        ...

    def close(self) -> None:
        """Let go of every connection; a second call does nothing."""
        ...

    def store(self, batch: Sequence[Record]) -> None:
        """Write records by the rule of `Record`: a final one stays, an older fence never wins."""
        ...

    def fetch(self, ids: Sequence[str]) -> Mapping[str, Record]:
        """Return what is known of `ids`; expired records are not."""
        ...

    def watch(self) -> Watch:
        """Return a new watch."""
        ...

    def forget(self, ids: Sequence[str]) -> None:
        """Delete records."""
        ...

    def open_group(self, group: Group) -> None:
        """Begin to count a group's parts; a second call with its id does nothing."""
        ...

    def close_parts(self, parts: Sequence[Part]) -> Sequence[Ready]:
        """Fill each part's slot once; return every complete group whose body is not marked sent."""
        ...

    def parts(self, group: str) -> Iterable[Record]:
        """Return the filled slots of a group in order of their index.

        Read as they are taken, so that those of a large group are not all held at once.
        """
        ...

    def mark_sent(self, groups: Sequence[str]) -> None:
        """Note that the follow-ups of these groups were published."""
        ...

    def expire(self, before: float, *, limit: int) -> int:
        """Delete up to `limit` records and groups that expired before `before`; return how many."""
        ...


@runtime_checkable
class GrowingGroups(Protocol):
    """Optional, of a result store: groups that get more slots while they are open."""

    def grow_group(self, group: str, by: int, *, once: str = "") -> int:
        """Add slots behind the last one and return the index of the first; -1 where it is not open.

        Open means: known, and not marked sent.

        :param once: an id; a second call with it adds nothing and returns what the first one did.
        """
        ...
