"""The results of a group.

Owns: GroupResult.  May import: kernel, client.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from celeriac.client.result import AsyncResult

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac


class GroupResult:
    """The results of a group's tasks, in their order.

    :param id: the group's.
    :param results: of its tasks.
    :param parent: what came before the group in a chain.
    """

    def __init__(
        self,
        id: str | None = None,  # noqa: A002 - Celery's name
        results: Sequence[Any] | None = None,
        parent: Any = None,
        app: Celeriac | None = None,
    ) -> None:
        self.id = id
        self.results: Sequence[Any] = results if results is not None else []
        self.parent = parent
        self._app = app

    def get(self, timeout: float | None = None, propagate: bool = True, **kwargs: Any) -> list[Any]:
        """Wait for all of them; return their values in order."""
        return [result.get(timeout, propagate, **kwargs) for result in self.results]

    join = get

    def ready(self) -> bool:
        """Return whether all have ended."""
        return all(result.ready() for result in self.results)

    def successful(self) -> bool:
        """Return whether all have returned."""
        return all(result.successful() for result in self.results)

    def maybe_throw(self, **kwargs: Any) -> None:
        """Raise the exception of the first that failed."""
        for result in self.results:
            result.maybe_throw(**kwargs)

    def as_tuple(self) -> tuple[Any, Any]:
        """Return `((id, parent), [results])`."""
        parent = self.parent.as_tuple() if self.parent is not None else None
        return (self.id, parent), [result.as_tuple() for result in self.results]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, index: int) -> Any:
        return self.results[index]

    def __repr__(self) -> str:
        return f"<GroupResult: {self.id} [{', '.join(str(r) for r in self.results)}]>"


class LazyResults(Sequence[Any]):
    """The results of a generator's tasks: ids, of which results are made when somebody looks.

    A hundred thousand of them are some megabytes.
    """

    def __init__(self, app: Celeriac) -> None:
        self._app = app
        self._held: list[Any] = []

    def add(self, result: Any) -> None:
        """Add an id, or a result that is more than that."""
        self._held.append(result)

    def __len__(self) -> int:
        return len(self._held)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        found = self._held[index]
        return AsyncResult(found, app=self._app) if isinstance(found, str) else found

    def __reduce__(self) -> Any:
        return list, (list(self),)
