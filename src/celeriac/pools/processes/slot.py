"""What a child is doing, in memory that outlives it: how its parent knows what died with it.

Owns: Slots, Slot.  Thread rule: the child writes, the parent reads.
May import: the standard library only.
"""

from __future__ import annotations

import mmap
import struct
import time

# Native: each word is copied whole, so that the parent never reads half of one.
_LAYOUT = struct.Struct("@QQdd")
_ASK = 512
"""Bytes of a question; the kernel gives memory only to the pages that are written."""
_SIZE = 64
"""Bytes of a slot: a cache line, so that children do not slow each other."""


class Slot:
    """One child's place: running seq (0 idle), last seq begun, start, hard deadline (monotonic)."""

    def __init__(self, memory: mmap.mmap, index: int, asks: mmap.mmap) -> None:
        self._asks = asks
        self._memory, self._at = memory, index * _SIZE
        self.index = index
        self._last = 0

    def clear(self) -> None:
        """Make it a new child's."""
        self._last = 0
        _LAYOUT.pack_into(self._memory, self._at, 0, 0, 0.0, 0.0)
        self.void(0)

    def begin(self, seq: int) -> None:
        """Note, in the child, what is begun."""
        self._last = seq
        _LAYOUT.pack_into(self._memory, self._at, seq, seq, time.monotonic(), 0.0)

    def limit(self, deadline: float) -> None:
        """Note, in the child, when the parent is to end it; 0 for never."""
        struct.pack_into("@d", self._memory, self._at + 24, deadline)

    def end(self) -> None:
        """Note, in the child, that nothing runs."""
        _LAYOUT.pack_into(self._memory, self._at, 0, self._last, 0.0, 0.0)

    def void(self, seq: int) -> None:
        """Take back, in the parent, what is not begun, up to `seq`.

        The child writes what it begins before it reads this; the parent reads what was begun only
        a tick after it wrote this.  So whatever is above that cannot begin any more, even if the
        task holds the interpreter's lock and the child can be told nothing.
        """
        struct.pack_into("@Q", self._memory, self._at + 32, seq)

    def is_void(self, seq: int) -> bool:
        """Return, in the child, whether what it has just begun was taken back."""
        return bool(seq <= struct.unpack_from("@Q", self._memory, self._at + 32)[0])

    def ask(self, question: bytes) -> None:
        """Leave, in the parent, a question for the child.

        :raises ValueError: it is too long.
        """
        if len(question) > _ASK - 2:
            raise ValueError(f"a question of {len(question)} bytes")
        at = self.index * _ASK
        self._asks[at : at + 2 + len(question)] = len(question).to_bytes(2, "big") + question

    def asked(self) -> bytes:
        """Return, in the child, the last question."""
        at = self.index * _ASK
        return self._asks[at + 2 : at + 2 + int.from_bytes(self._asks[at : at + 2], "big")]

    def read(self) -> tuple[int, int, float, float]:
        """Return (running, last begun, started, deadline)."""
        return _LAYOUT.unpack_from(self._memory, self._at)


class Slots:
    """Shared memory for `count` children, made before they are forked."""

    def __init__(self, count: int) -> None:
        self._memory = mmap.mmap(-1, max(1, count) * _SIZE)
        self._asks = mmap.mmap(-1, max(1, count) * _ASK)

    def __getitem__(self, index: int) -> Slot:
        return Slot(self._memory, index, self._asks)
