"""The tasks of a group that were given as a generator.

Owns: Parts.  May import: the standard library only.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload


class Parts(Sequence[Any]):
    """The tasks of a group that were given as a generator.

    Sent, they are taken from the generator one by one and not kept; whoever counts them, indexes
    or copies them before makes them a list.
    """

    def __init__(self, source: Iterable[Any]) -> None:
        self._source: Iterator[Any] | None = iter(source)
        self._list: list[Any] | None = None
        self._each: list[Any] = []

    def each(self, change: Any) -> None:
        """Call `change` with every task, at once or when it comes."""
        if self._list is not None:
            for task in self._list:
                change(task)
        else:
            self._each.append(change)

    def stream(self) -> Iterator[Any]:
        """Return the tasks, once.

        :raises RuntimeError: they have been taken before.
        """
        if self._list is not None:
            return iter(self._list)
        source, self._source = self._source, None
        if source is None:
            raise RuntimeError(
                "the generator of this group has been used: give a list to send it again"
            )
        return self._changed(source)

    def _changed(self, source: Iterator[Any]) -> Iterator[Any]:
        for task in source:
            for change in self._each:
                change(task)
            yield task

    def first(self) -> Any:
        """Return the first task and leave it where it is; None where there is none, or no more."""
        if self._list is not None:
            return self._list[0] if self._list else None
        if self._source is None:
            return None
        found = next(self._source, None)
        if found is not None:
            self._source = itertools.chain((found,), self._source)
        return found

    def all(self) -> list[Any]:
        """Return the tasks as a list, which is kept."""
        if self._list is None:
            self._list = list(self.stream())
        return self._list

    @property
    def listed(self) -> bool:
        """Whether the generator has been made a list."""
        return self._list is not None

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self.all()[index]

    def __len__(self) -> int:
        return len(self.all())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.all())

    def __eq__(self, other: object) -> bool:
        return self.all() == (other.all() if isinstance(other, Parts) else other)

    __hash__ = None  # type: ignore[assignment]

    def __json__(self) -> list[Any]:
        return self.all()

    def __reduce__(self) -> Any:
        return list, (self.all(),)

    def __repr__(self) -> str:
        return repr(self.all())
