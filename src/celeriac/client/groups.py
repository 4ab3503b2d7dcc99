"""Results of many tasks, waited for together.

A set waits with one note to the watcher, however many results and waiters there are, and wakes as
they finish.

Owns: ResultSet, GroupResult, LazyResults, TASKSET.  May import: kernel, ports, client.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import queue
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence, Sized
from typing import TYPE_CHECKING, Any, cast

from celeriac.client.current import get_current_app
from celeriac.client.records import result_codec
from celeriac.client.result import AsyncResult, assert_may_block, result_from_tuple
from celeriac.kernel.errors import DecodeError, TimeoutError
from celeriac.kernel.ids import uuid
from celeriac.kernel.message import Record
from celeriac.kernel.states import FAILURE, PROPAGATE_STATES, READY_STATES, SUCCESS
from celeriac.ports.registry import find_codec

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

TASKSET = "celery-taskset-meta-"
"""A saved group is a record whose id is this and the group's id: Celery's key on Redis."""

SAVED = "SAVED"
"""The state of that record.  It is not a final one, so that a group may be saved again."""

Node = Any
"""An AsyncResult or, in a group of groups, another set."""


class LazyResults(Sequence[Any]):
    """The results of a generator's tasks: ids, of which results are made when somebody looks.

    A UUID takes its sixteen bytes here: a hundred thousand of them are under two megabytes.
    """

    def __init__(self, app: Celeriac) -> None:
        self._app = app
        self._ids = bytearray()
        self._others: dict[int, Any] = {}
        self._size = 0

    def add(self, result: Any) -> None:
        """Add an id, or a result that is more than that."""
        packed = _packed(result) if isinstance(result, str) else None
        if packed is None:
            self._others[self._size] = result
            packed = bytes(16)
        self._ids += packed
        self._size += 1

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(self._size))]
        place = range(self._size)[index]
        found = self._others.get(place)
        if found is None:
            found = _unpacked(self._ids[16 * place : 16 * place + 16])
        return AsyncResult(found, app=self._app) if isinstance(found, str) else found

    def __reduce__(self) -> Any:
        return list, (list(self),)


def _unpacked(packed: bytes | bytearray) -> str:
    digits = packed.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _packed(task_id: str) -> bytes | None:
    """Return the bytes of a UUID as Python writes it; None for another id."""
    try:
        packed = bytes.fromhex(task_id.replace("-", ""))
    except ValueError:
        return None
    return packed if len(packed) == 16 and _unpacked(packed) == task_id else None


class ResultSet:
    """Several results as one.

    :param results: AsyncResults and other sets.
    """

    _app: Celeriac | None = None

    def __init__(
        self,
        results: Iterable[Node] = (),
        app: Celeriac | None = None,
        ready_barrier: Any = None,
        **kwargs: Any,
    ) -> None:
        if app is not None:
            self._app = app
        # What makes results when somebody looks may stay so until somebody waits.
        self.results: Any = results if isinstance(results, LazyResults) else list(results)

    @property
    def app(self) -> Celeriac:
        """The app whose store is asked."""
        app = self._app
        if app is None:
            app = self._app = self.results[0].app if self.results else get_current_app()
        return app

    @app.setter
    def app(self, app: Celeriac) -> None:
        self._app = app

    @property
    def backend(self) -> Any:
        """The store that is asked."""
        return self.app.backend

    supports_native_join = True

    # -- members --------------------------------------------------------------------------------

    def add(self, result: Node) -> None:
        """Add a result, unless it is in the set."""
        if result not in self.results:
            self.results.append(result)

    def remove(self, result: Node) -> None:
        """Take a result out.

        :param result: the result or its id.
        :raises KeyError: it is not in the set.
        """
        try:
            self.results.remove(result)
        except ValueError:
            raise KeyError(result) from None

    def discard(self, result: Node) -> None:
        """Take a result out, if it is in the set."""
        with contextlib.suppress(KeyError):
            self.remove(result)

    def update(self, results: Iterable[Node]) -> None:
        """Add those results that are not in the set."""
        known = {result.id for result in self.results}
        for result in results:
            if result.id not in known:
                known.add(result.id)
                self.results.append(result)

    def clear(self) -> None:
        """Take every result out."""
        self.results.clear()

    def leaves(self) -> Iterator[AsyncResult[Any]]:
        """Yield the results of single tasks, those of sets within this one too."""
        if isinstance(self.results, LazyResults):
            self.results = list(self.results)
        stack = list(reversed(self.results))
        while stack:
            node = stack.pop()
            if isinstance(node, ResultSet):
                stack.extend(reversed(node.results))
            else:
                yield node

    # -- states ---------------------------------------------------------------------------------

    def _look(self) -> None:
        """Read what is not known to be final, with one question to the store."""
        unknown = {leaf.id: leaf for leaf in self.leaves() if leaf._meta is None}
        if unknown:
            for record in self.app.results.fetch(list(unknown)).values():
                if record.state in READY_STATES:
                    unknown[record.id]._keep(record)

    def _states(self) -> Iterator[str | None]:
        """Yield the final state of each leaf, None where it has not ended."""
        self._look()
        for leaf in self.leaves():
            yield None if leaf._meta is None else str(leaf._meta["status"])

    def ready(self) -> bool:
        """Return whether every task has ended."""
        return all(state is not None for state in self._states())

    def waiting(self) -> bool:
        """Return whether any task has not ended."""
        return not self.ready()

    def successful(self) -> bool:
        """Return whether every task returned."""
        return all(state == SUCCESS for state in self._states())

    def failed(self) -> bool:
        """Return whether any task failed."""
        return any(state == FAILURE for state in self._states())

    def completed_count(self) -> int:
        """Return how many members returned."""
        self._look()
        return sum(
            node.successful()
            if isinstance(node, ResultSet)
            else node._meta is not None and node._meta["status"] == SUCCESS
            for node in self.results
        )

    def maybe_throw(
        self, callback: Callable[[str, Any], Any] | None = None, propagate: bool = True
    ) -> None:
        """Raise the exception of the first member, in order, that failed."""
        self._look()
        for node in self.results:
            node.maybe_throw(callback=callback, propagate=propagate)

    maybe_reraise = maybe_throw

    # -- waiting --------------------------------------------------------------------------------

    def as_completed(self, timeout: float | None = None) -> Generator[AsyncResult[Any], None, None]:
        """Yield the results of single tasks as these end, those that have ended first.

        :param timeout: seconds for all of them; None waits for ever.
        :raises TimeoutError: some had not ended in time.
        """
        return self._ending(timeout, 0.5, None)

    def _unknown(self) -> dict[str, list[AsyncResult[Any]]]:
        """Return the leaves that are not known to have ended, by their ids."""
        unknown: dict[str, list[AsyncResult[Any]]] = {}
        for leaf in self.leaves():
            if leaf._meta is None and not leaf._ignored:
                unknown.setdefault(leaf.id, []).append(leaf)
        return unknown

    def _ending(
        self, timeout: float | None, interval: float, on_interval: Callable[[], Any] | None
    ) -> Generator[AsyncResult[Any], None, None]:
        waiting = self._unknown()
        yield from [leaf for leaf in self.leaves() if leaf.id not in waiting]
        if not waiting:
            return
        ended: queue.SimpleQueue[Record] = queue.SimpleQueue()
        callback = ended.put
        ends = None if timeout is None else time.monotonic() + timeout
        watcher, size = self.app.watcher, len(waiting)
        watcher.add_all(list(waiting), callback)
        try:
            while waiting:
                left = None if ends is None else max(0.0, ends - time.monotonic())
                step = left
                if on_interval is not None:
                    step = interval if left is None else min(interval, left)
                try:
                    record = ended.get(timeout=step)
                except queue.Empty:
                    if left is not None and left <= cast("float", step):
                        raise _late(waiting, size, timeout) from None
                    cast("Callable[[], Any]", on_interval)()
                    continue
                for leaf in waiting.pop(record.id, ()):
                    leaf._keep(record)
                    yield leaf
        finally:
            watcher.discard_all(list(waiting), callback)

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, Any], Any] | None = None,
        no_ack: bool = True,
        on_message: Any = None,
        disable_sync_subtasks: bool = True,
        on_interval: Callable[[], Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Wait until every task has ended and return the values in order.

        :param timeout: seconds for all of them; None waits for ever.
        :param propagate: raise the exception of the first that fails, without waiting for the
            others; False puts exceptions in their places.
        :param callback: called with each id and value as they come; nothing is returned then.
        :param on_interval: called every `interval` seconds while waiting.
        :raises TimeoutError: some had not ended in time.
        :raises RuntimeError: called inside a task (see `allow_join_result`).
        """
        if disable_sync_subtasks:
            assert_may_block()
        with contextlib.closing(self._ending(timeout, interval, on_interval)) as ended:
            for leaf in ended:
                value = None if leaf._ignored else leaf.maybe_throw(propagate=propagate)
                if callback is not None:
                    callback(leaf.id, value)
        return None if callback is not None else self._values()

    join_native = get

    def join(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, Any], Any] | None = None,
        no_ack: bool = True,
        on_message: Any = None,
        disable_sync_subtasks: bool = True,
        on_interval: Callable[[], Any] | None = None,
        **kwargs: Any,
    ) -> list[Any]:
        """Wait for the tasks in their order and return the values.

        As `get`, but an exception is raised when its turn comes, and `callback` is called in
        order, with an empty list returned then.
        """
        if disable_sync_subtasks:
            assert_may_block()
        with contextlib.closing(self._ending(timeout, interval, on_interval)) as ended:
            for leaf in self.leaves():
                while leaf._meta is None and not leaf._ignored:
                    next(ended)
                value = None if leaf._ignored else leaf.maybe_throw(propagate=propagate)
                if callback is not None:
                    callback(leaf.id, value)
        return [] if callback is not None else self._values()

    def iter_native(
        self,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: Any = None,
        on_interval: Callable[[], Any] | None = None,
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield pairs of id and meta as tasks end.

        :raises TimeoutError: some had not ended in time.
        """
        for leaf in self._ending(timeout, interval, on_interval):
            yield leaf.id, leaf._read()

    def _values(self) -> list[Any]:
        return [
            node._values()
            if isinstance(node, ResultSet)
            else None
            if node._ignored
            else node._read()["result"]
            for node in self.results
        ]

    def __aiter__(self) -> AsyncIterator[AsyncResult[Any]]:
        return self._finishing(None)

    async def _finishing(self, timeout: float | None) -> AsyncIterator[AsyncResult[Any]]:
        """Yield results as they end, without blocking the event loop and without a thread."""
        assert_may_block()
        waiting = self._unknown()
        for leaf in self.leaves():
            if leaf.id not in waiting:
                yield leaf
        if not waiting:
            return
        app, size = self.app, len(waiting)
        loop = asyncio.get_running_loop()
        ended: asyncio.Queue[Record] = asyncio.Queue()

        def callback(record: Record) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(ended.put_nowait, record)

        ends = None if timeout is None else loop.time() + timeout
        await app.in_thread(app.watcher.add_all, list(waiting), callback)
        try:
            while waiting:
                try:
                    async with asyncio.timeout_at(ends):
                        record = await ended.get()
                except builtins.TimeoutError:
                    raise _late(waiting, size, timeout) from None
                for leaf in waiting.pop(record.id, ()):
                    leaf._keep(record)
                    yield leaf
        finally:
            app.watcher.discard_all(list(waiting), callback)

    async def aget(self, timeout: float | None = None, propagate: bool = True) -> list[Any]:
        """Wait as `get`, without blocking the event loop and without a thread per waiter.

        :raises TimeoutError: some had not ended in time.
        :raises RuntimeError: awaited inside a task (see `allow_join_result`).
        """
        async with contextlib.aclosing(cast("Any", self._finishing(timeout))) as ended:
            async for leaf in ended:
                if propagate and not leaf._ignored:
                    leaf.maybe_throw()
        return self._values()

    def __await__(self) -> Generator[Any, Any, list[Any]]:
        return self.aget().__await__()

    def then(self, callback: Callable[[Any], Any], on_error: Any = None, weak: bool = False) -> Any:
        """Call `callback` with this set once every task returned, `on_error` once any failed.

        They are called from the watcher's thread, or here where everything has ended.
        """
        waiting = self._unknown()

        def finish() -> None:
            states = [leaf._meta["status"] for leaf in self.leaves() if leaf._meta is not None]
            if not any(state in PROPAGATE_STATES for state in states):
                callback(self)
            elif on_error is not None:
                on_error(self)

        def ended(record: Record) -> None:
            for leaf in waiting.pop(record.id, ()):
                leaf._keep(record)
            if not waiting:
                finish()

        if waiting:
            self.app.watcher.add_all(list(waiting), ended)
        else:
            finish()
        return self

    # -- acting ---------------------------------------------------------------------------------

    def forget(self) -> None:
        """Delete the results from the store."""
        found = [leaf for leaf in self.leaves() if leaf._stored]
        for leaf in found:
            leaf._meta = None
        if found:
            self.app.results.forget([leaf.id for leaf in found])

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | int | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Keep the tasks from running, see `AsyncResult.revoke`."""
        ids = []
        for leaf in self.leaves():
            if leaf._stored:
                ids.append(leaf.id)
            else:
                leaf.revoke()
        if ids:
            self.app.revoke(ids, terminate=terminate)

    # -- as a sequence ----------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Node]:
        return iter(self.results)

    def __getitem__(self, index: int) -> Node:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ResultSet) and list(other.results) == list(self.results)

    __hash__ = None  # type: ignore[assignment]  # it is changed in place

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: [{', '.join(node.id for node in self.results)}]>"


def _late(waiting: Sized, size: int, timeout: float | None) -> TimeoutError:
    return TimeoutError(f"{len(waiting):,} of {size:,} tasks had not ended after {timeout} s")


class GroupResult(ResultSet):
    """The results of a group: a set with an id.

    :param parent: the result of what came before the group in a chain.
    """

    def __init__(
        self,
        id: str | None = None,  # noqa: A002 - Celery's name
        results: Iterable[Node] = (),
        parent: AsyncResult[Any] | GroupResult | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(results or (), **kwargs)
        self.id = id if id is not None else uuid()
        self.parent = parent

    @property
    def children(self) -> Sequence[Node]:
        """The members: what `iterdeps` of a parent goes on with."""
        return cast("Sequence[Node]", self.results)

    # -- in the store ---------------------------------------------------------------------------

    def save(self, backend: Any = None) -> Any:
        """Write the group's id and members to the store, where `restore` finds them."""
        app = self.app
        body = find_codec(app.conf.result_serializer).dumps({"result": self.as_tuple()})
        kept = app.result_expires
        record = Record(
            TASKSET + self.id, SAVED, body, expires_at=app.clock.time() + kept if kept else 0.0
        )
        app.results.store([record])
        return self

    def delete(self, backend: Any = None) -> None:
        """Delete what `save` wrote."""
        self.app.results.forget([TASKSET + self.id])

    @classmethod
    def restore(
        cls,
        id: str,  # noqa: A002 - Celery's name
        backend: Any = None,
        app: Celeriac | None = None,
    ) -> GroupResult | None:
        """Return a saved group; None where there is none.

        :raises DecodeError: it cannot be read with `result_serializer`.
        :raises ContentDisallowed: results must not be read with it.
        """
        app = app or cls._app or get_current_app()
        key = TASKSET + id
        record = app.results.fetch([key]).get(key)
        if record is None or record.body is None:
            return None
        meta = result_codec(app).loads(record.body)
        try:
            return cast("GroupResult", result_from_tuple(meta["result"], app))
        except (KeyError, TypeError, ValueError) as error:
            raise DecodeError(f"the saved group {id} cannot be read: {error}") from error

    def as_tuple(self) -> tuple[Any, Any]:
        """Return `((id, parent), [member, ...])`, which `result_from_tuple` reads."""
        parent = self.parent.as_tuple() if self.parent is not None else None
        return (self.id, parent), [node.as_tuple() for node in self.results]

    # -- as a value -------------------------------------------------------------------------------

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GroupResult):
            same = (other.id, other.parent) == (self.id, self.parent)
            return same and list(other.results) == list(self.results)
        return isinstance(other, str) and other == self.id

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(self.id)

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<GroupResult: {self.id} [{', '.join(node.id for node in self.results)}]>"

    def __reduce__(self) -> Any:
        return GroupResult, (self.id, self.results, self.parent)
