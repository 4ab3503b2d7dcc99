"""Where beat keeps its entries, so that any number of beats may share them.

An entry's row only moves forward, by whoever is first: every write names the version that it was
made from, and is left out where the row has another one by now.

The contract is `celeriac.testing.contract.schedules`.

Owns: Entry, Tick, ScheduleStore.  May import: kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from celeriac.kernel.message import Envelope


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a schedule, as it is stored."""

    name: str
    spec: bytes
    """What runs when: the engine's own, which a store never reads."""
    next_at: float | None
    """Unix seconds of the tick to come; None where none comes."""
    from_code: bool = False
    """It is written in the program, which brings it back at its next start."""
    paused: bool = False
    last_at: float = 0.0
    """Unix seconds of the last tick that was sent; 0 means none was."""
    runs: int = 0
    """How many ticks were sent."""
    version: int = 0
    """Grows with every write; 0 means it is not stored yet."""
    claimed: int = 0
    """How many others had claimed this tick before, and may have published it."""


@dataclass(frozen=True, slots=True)
class Tick:
    """An entry's step from one tick to the next."""

    name: str
    version: int
    """Of the entry that was due."""
    next_at: float | None
    last_at: float
    """The tick that was sent; the entry's old one where it was passed over."""
    runs: int = 1
    """How many messages of this entry were sent."""
    envelopes: tuple[Envelope, ...] = ()


class ScheduleStore(Protocol):
    """The entries of any number of programs, told apart by their scope.

    Raises only BrokerUnavailable (try again) and BrokerRejected (do not).
    Thread rule: every method may be called from any thread.
    """

    publishes: bool
    """Whether `sent` publishes envelopes too, to the broker of its family, in one transaction."""

    def open(self) -> None:
        """Connect and check; a second call does nothing."""
        ...

    def entries(self, scope: str, names: Sequence[str] | None = None) -> Sequence[Entry]:
        """Return the entries of these names, or all, in order of their names."""
        ...

    def put(self, scope: str, entries: Sequence[Entry]) -> Sequence[str]:
        """Write entries; return the names of those left out, whose stored version is another.

        An entry of version 0 is written only where none of its name is stored.
        """
        ...

    def remove(self, scope: str, names: Sequence[str]) -> int:
        """Delete entries; return how many there were."""
        ...

    def due(
        self, scope: str, now: float, *, limit: int, owner: str = "", lease: float = 0.0
    ) -> Sequence[Entry]:
        """Return entries whose tick has come, the earliest first.

        :param now: unix seconds.
        :param owner: claims them for `lease` seconds, and leaves out what others have claimed;
            without one, nothing is claimed: for stores that publish by themselves.
        """
        ...

    def sent(self, scope: str, ticks: Sequence[Tick]) -> Sequence[str]:
        """Move entries on and publish the envelopes of each; return the names of those moved.

        An entry that has another version by now stays, and nothing of its tick is published.
        """
        ...

    def next_at(self, scope: str, after: float) -> float | None:
        """Return the time of the first tick after `after`; None where none is to come."""
        ...
