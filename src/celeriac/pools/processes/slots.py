"""Memory that a child shares with the pool: what it runs, since when, until when.

One writer for each field, whole words only, and no lock: a child that dies, whenever it does,
leaves behind what it was doing.

Two agreements are made here that must hold however slow either side is.  Both go the same way:
each side writes its own word first and reads the other's after that, and the pool looks again
only a tick after it wrote, when whatever the child was about to write has arrived.

- *Void*.  The pool takes back what a child has not begun by raising `VOID`; the child writes
  `STARTED` before it reads `VOID`, and gives back what is void.  A tick later, whatever is above
  `STARTED` cannot begin any more.  So no help of the child is needed: its task may hold the
  interpreter's lock for a minute.
- *Doom*.  The pool announces in `DOOMED` which delivery a kill is meant for; the child writes
  `ENDED` before it reads `DOOMED`, and if that is the one, it waits.  A tick later, either the
  kill meets the delivery that it was meant for, or it is called off.

Owns: Slots, Slot.  May import: the standard library only.
"""

from __future__ import annotations

import mmap

ROWS = 4096
"""Children at the most; pages that are not touched take no memory."""
_WORDS = 8

STARTED, ENDED, VOID, DOOMED = range(4)
"""Words of `Slot.words`: sequence numbers of deliveries.  The child writes the first two."""
BEGAN, DEADLINE, HARD = range(4, 7)
"""Words of `Slot.times`: monotonic seconds of the start and the hard limit; and its length."""


class Slot:
    """One child's row."""

    __slots__ = ("row", "times", "words")

    def __init__(self, row: int, memory: memoryview) -> None:
        self.row = row
        self.words = memory.cast("q")
        self.times = memory.cast("d")

    def clear(self) -> None:
        """Make the row fit for another child."""
        for index in range(_WORDS):
            self.words[index] = 0

    def running(self) -> int:
        """Return the number of the delivery that runs, or 0."""
        words = self.words
        started = words[STARTED]
        return started if words[ENDED] < started else 0


class Slots:
    """All rows; made before the zygote, so that every child maps the same pages."""

    def __init__(self) -> None:
        self._memory = memoryview(mmap.mmap(-1, ROWS * _WORDS * 8))
        self._free = list(range(ROWS - 1, -1, -1))

    def __getitem__(self, row: int) -> Slot:
        start = row * _WORDS * 8
        return Slot(row, self._memory[start : start + _WORDS * 8])

    def take(self) -> Slot:
        """Return a free row, cleared."""
        slot = self[self._free.pop()]
        slot.clear()
        return slot

    def give_back(self, slot: Slot) -> None:
        """Take back the row of a child that is gone."""
        self._free.append(slot.row)
