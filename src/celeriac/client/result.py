"""Results to come: what a caller holds of a task that it sent.

Owns: AsyncResult, allow_join_result, denied_join_result.  May import: kernel, client.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import datetime as dt
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from celeriac.client.current import _join_allowed, get_current_app, get_current_request
from celeriac.client.graph import Graph
from celeriac.client.records import read_meta
from celeriac.kernel.errors import IncompleteStream, TimeoutError
from celeriac.kernel.message import Record
from celeriac.kernel.states import FAILURE, PENDING, PROPAGATE_STATES, READY_STATES, SUCCESS

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

R = TypeVar("R")

E_WOULDBLOCK = """\
Never call result.get() within a task: it takes a slot to wait for a slot.
Send the follow-up as a link or a chain, or allow it with `with allow_join_result():`.
"""


@contextlib.contextmanager
def allow_join_result() -> Iterator[None]:
    """Let tasks wait for results inside the block."""
    token = _join_allowed.set(True)
    try:
        yield
    finally:
        _join_allowed.reset(token)


@contextlib.contextmanager
def denied_join_result() -> Iterator[None]:
    """Keep tasks from waiting for results inside the block."""
    token = _join_allowed.set(False)
    try:
        yield
    finally:
        _join_allowed.reset(token)


def assert_may_block() -> None:
    """Refuse to wait inside a task.

    :raises RuntimeError: a task runs here and `allow_join_result` was not used.
    """
    request = get_current_request()
    if request is not None and not request.is_eager and not _join_allowed.get():
        raise RuntimeError(E_WOULDBLOCK)


class AsyncResult(Generic[R]):
    """The result of one task, by its id.

    Waiting does not poll where the store can notify; `await result` waits without a thread.

    :param parent: the result of what came before in a chain: an AsyncResult or a GroupResult.
    """

    _stored = True
    """The store has it, or will have."""

    def __init__(
        self,
        id: str,  # noqa: A002 - Celery's name
        backend: Any = None,
        task_name: str | None = None,
        app: Celeriac | None = None,
        parent: Any = None,
    ) -> None:
        if id is None:
            raise ValueError("AsyncResult requires a valid id, not None")
        self.id = id
        self._app = app
        self.task_name = task_name
        self.parent = parent
        self._meta: dict[str, Any] | None = None
        self._ignored = False

    @property
    def app(self) -> Celeriac:
        """The app whose store is asked."""
        return self._app if self._app is not None else get_current_app()

    @property
    def task_id(self) -> str:
        """The id."""
        return self.id

    @property
    def backend(self) -> Any:
        """The store that is asked."""
        return self.app.backend

    # -- reading --------------------------------------------------------------------------------

    def _read(self) -> dict[str, Any]:
        if self._meta is not None:
            return self._meta
        record = self.app.results.fetch([self.id]).get(self.id)
        if record is None:
            return {"status": PENDING, "result": None, "traceback": None, "children": None}
        return self._keep(record)

    def _keep(self, record: Record) -> dict[str, Any]:
        meta = read_meta(self.app, record)
        if meta["status"] in READY_STATES:
            self._meta = meta
        return meta

    @property
    def state(self) -> str:
        """The task's state; PENDING is also that of an id never heard of."""
        return str(self._read()["status"])

    status = state

    @property
    def result(self) -> Any:
        """The returned value, the exception of a failure, or the meta of a state."""
        return self._read()["result"]

    info = result

    @property
    def traceback(self) -> str | None:
        """The traceback of a failure, as text."""
        found: str | None = self._read().get("traceback")
        return found

    @property
    def date_done(self) -> dt.datetime | None:
        """When the state was stored, as an aware datetime."""
        value = self._read().get("date_done")
        return dt.datetime.fromisoformat(value) if isinstance(value, str) else value

    @property
    def children(self) -> list[Any] | None:
        """The results of what the task sent while it ran: AsyncResults and GroupResults."""
        found = self._read().get("children")
        if found is None:
            return None
        return [result_from_tuple(child, self.app) for child in found]

    name = property(lambda self: self._read().get("name"))
    args = property(lambda self: self._read().get("args"))
    kwargs = property(lambda self: self._read().get("kwargs"))
    worker = property(lambda self: self._read().get("worker"))
    queue = property(lambda self: self._read().get("queue"))
    retries = property(lambda self: self._read().get("retries"))

    @property
    def ignored(self) -> bool:
        """True where no result is stored for this call."""
        return self._ignored

    @ignored.setter
    def ignored(self, value: bool) -> None:
        self._ignored = value

    def exists(self) -> bool:
        """Return whether the store knows anything of the task."""
        return bool(self.app.results.fetch([self.id]))

    def ready(self) -> bool:
        """Return whether the task has ended."""
        return self.state in READY_STATES

    def successful(self) -> bool:
        """Return whether the task returned."""
        return self.state == SUCCESS

    def failed(self) -> bool:
        """Return whether the task failed."""
        return self.state == FAILURE

    # -- waiting --------------------------------------------------------------------------------

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        no_ack: bool = True,
        follow_parents: bool = True,
        callback: Callable[[str, Any], Any] | None = None,
        on_message: Any = None,
        on_interval: Callable[[], Any] | None = None,
        disable_sync_subtasks: bool = True,
        **kwargs: Any,
    ) -> R:
        """Wait until the task has ended and return what it returned.

        :param timeout: seconds; None waits for ever.
        :param propagate: raise the task's exception; False returns it.
        :param callback: called with the id and the value.
        :param on_interval: called every `interval` seconds while waiting.
        :raises TimeoutError: it had not ended in time.
        :raises RuntimeError: called inside a task (see `allow_join_result`).
        """
        if self._ignored:
            return cast("R", None)
        if disable_sync_subtasks:
            assert_may_block()
        if propagate and follow_parents and self.parent is not None:
            self._raise_of_parents()
        meta = self._read()
        if meta["status"] not in READY_STATES:
            meta = self._wait(timeout, interval, on_interval)
            if propagate and follow_parents and meta["status"] in PROPAGATE_STATES:
                self._raise_of_parents()
        return self._outcome(meta, propagate, callback)

    wait = get

    def _raise_of_parents(self) -> None:
        """Raise what failed first: the error of a step says more than that of those behind it."""
        parents, node = [], self.parent
        while node is not None:
            parents.append(node)
            node = node.parent
        for parent in reversed(parents):
            parent.maybe_throw()

    def _wait(
        self, timeout: float | None, interval: float, on_interval: Callable[[], Any] | None
    ) -> dict[str, Any]:
        ends = None if timeout is None else time.monotonic() + timeout
        watcher = self.app.watcher
        while True:
            left = None if ends is None else ends - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError(f"task {self.id} had not ended after {timeout} s")
            step = left if on_interval is None else min(interval, left or interval)
            record = watcher.wait(self.id, step)
            if record is not None:
                return self._keep(record)
            if on_interval is not None:
                on_interval()

    def _outcome(
        self, meta: dict[str, Any], propagate: bool, callback: Callable[[str, Any], Any] | None
    ) -> R:
        self._meta = meta
        if propagate:
            self.maybe_throw(callback=callback)
        elif callback is not None:
            callback(self.id, meta["result"])
        return cast("R", meta["result"])

    async def aget(self, timeout: float | None = None, propagate: bool = True) -> R:
        """Wait as `get`, without blocking the event loop and without a thread per waiter.

        :raises TimeoutError: it had not ended in time.
        :raises RuntimeError: awaited inside a task (see `allow_join_result`).
        """
        if self._ignored:
            return cast("R", None)
        assert_may_block()
        app = self.app
        meta = await app.in_thread(self._read)
        if meta["status"] in READY_STATES:
            return self._outcome(meta, propagate, None)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Record] = loop.create_future()

        def settle(record: Record) -> None:
            if not future.done():
                future.set_result(record)

        def callback(record: Record) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, record)

        await app.in_thread(app.watcher.add, self.id, callback)
        try:
            record = await asyncio.wait_for(future, timeout)
        except builtins.TimeoutError:
            raise TimeoutError(f"task {self.id} had not ended after {timeout} s") from None
        finally:
            app.watcher.discard(self.id, callback)
        meta = self._keep(record)
        if propagate and self.parent is not None and meta["status"] in PROPAGATE_STATES:
            await app.in_thread(self._raise_of_parents)
        return self._outcome(meta, propagate, None)

    def __await__(self) -> Generator[Any, Any, R]:
        return self.aget().__await__()

    def then(
        self, callback: Callable[[AsyncResult[R]], Any], on_error: Any = None, weak: bool = False
    ) -> AsyncResult[R]:
        """Call `callback` with this result once the task returned, `on_error` once it failed.

        They are called from the watcher's thread, or here where it is known to have ended.
        """

        def settle() -> None:
            if self._read()["status"] == SUCCESS:
                callback(self)
            elif on_error is not None:
                on_error(self)

        def settled(record: Record) -> None:
            self._keep(record)
            settle()

        if self._meta is not None:
            settle()
        else:
            self.app.watcher.add(self.id, settled)
        return self

    def maybe_throw(
        self, propagate: bool = True, callback: Callable[[str, Any], Any] | None = None
    ) -> Any:
        """Raise the task's exception where it has one, else return its value."""
        meta = self._read()
        value = meta["result"]
        if meta["status"] in PROPAGATE_STATES and propagate:
            raise _with_remote(value, meta.get("traceback"))
        if callback is not None:
            callback(self.id, value)
        return value

    maybe_reraise = maybe_throw

    def throw(self, *args: Any, **kwargs: Any) -> None:
        """Raise the task's exception here."""
        raise _with_remote(self.result, self.traceback)

    # -- the tree -------------------------------------------------------------------------------

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
        """Walk the tree of children, level by level: pairs of parent and result.

        :param intermediate: go on where something has not ended, with what is known of it.
        :raises IncompleteStream: something has not ended.
        """
        waiting: deque[tuple[Any, Any]] = deque([(None, self)])
        while waiting:
            parent, node = waiting.popleft()
            yield parent, node
            if intermediate or node.ready():
                waiting.extend((node, child) for child in node.children or ())
            else:
                raise IncompleteStream(f"task {node.id} has not ended")

    @property
    def graph(self) -> Graph:
        """The tree of children, as far as it is known."""
        return self.build_graph(intermediate=True)

    def build_graph(self, intermediate: bool = False, formatter: Any = None) -> Graph:
        """Return the tree of children as a graph.

        :param intermediate: with what has not ended too.
        :raises IncompleteStream: something has not ended.
        """
        return Graph(self.iterdeps(intermediate))

    def collect(self, intermediate: bool = False, **kwargs: Any) -> Iterator[tuple[Any, Any]]:
        """Walk the tree of children, waiting: pairs of result and value.

        :param kwargs: as `get` takes them.
        """
        waiting: deque[Any] = deque([self])
        while waiting:
            node = waiting.popleft()
            yield node, node.get(**kwargs)
            waiting.extend(node.children or ())

    def get_leaf(self) -> Any:
        """Return the value of the last result of the tree."""
        value = None
        for _, node in self.iterdeps():
            value = node.get()
        return value

    # -- acting ---------------------------------------------------------------------------------

    def forget(self) -> None:
        """Delete the result from the store."""
        self._meta = None
        self.app.results.forget([self.id])

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | int | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Keep the task from running.

        One that waits is taken back and becomes REVOKED; one that runs goes on, unless `terminate`.
        """
        self.app.revoke([self.id], terminate=terminate, signal=signal or "SIGTERM")

    def as_tuple(self) -> tuple[Any, Any]:
        """Return `((id, parent), None)`, which `result_from_tuple` reads."""
        parent = self.parent.as_tuple() if self.parent is not None else None
        return (self.id, parent), None

    def as_list(self) -> list[str]:
        """Return the ids from this result to its first parent."""
        found, node = [], cast("AsyncResult[Any] | None", self)
        while node is not None:
            found.append(node.id)
            node = node.parent
        return found

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AsyncResult):
            return other.id == self.id
        return isinstance(other, str) and other == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id}>"

    def __reduce__(self) -> Any:
        return AsyncResult, (self.id, None, self.task_name, None, self.parent)


class RemoteTraceback(Exception):
    """The traceback of the worker, shown as the cause of the exception raised at the caller."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text.rstrip()}"


def _with_remote(error: Any, traceback: str | None) -> BaseException:
    if not isinstance(error, BaseException):
        error = Exception(error)
    if traceback and error.__cause__ is None:
        error.__cause__ = RemoteTraceback(traceback)
    return cast("BaseException", error)


def result_from_tuple(value: Any, app: Celeriac | None = None) -> Any:
    """Return the AsyncResult or GroupResult of what `as_tuple` gave."""
    if not isinstance(value, (list, tuple)):
        return value  # a result already
    head, members = value
    found_id, parent = head if isinstance(head, (list, tuple)) else (head, None)
    app = app if app is not None else get_current_app()
    above = result_from_tuple(parent, app) if parent else None
    if members is not None:
        results = [result_from_tuple(member, app) for member in members]
        return app.GroupResult(found_id, results, parent=above)
    return AsyncResult(found_id, app=app, parent=above)
