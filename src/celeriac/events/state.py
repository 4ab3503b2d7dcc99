"""A picture of the fleet made of events: its workers and its latest tasks, bounded.

Events come in any order and some not at all.  A task's later state is never taken back by an event
of an earlier one, which may still add what only it says.

Owns: State, Task, Worker.  Thread rule: any thread; `freeze_while` holds the picture still.
May import: kernel.
"""

from __future__ import annotations

import threading
import time
import weakref
from bisect import insort
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from celeriac.kernel import states

HEARTBEATS = 4
"""Times of heartbeats that are kept of a worker."""
EXPIRE_WINDOW = 200
"""Per cent of its frequency after which a worker without heartbeat is taken for dead."""

STATE_OF = {
    "sent": states.PENDING,
    "received": states.RECEIVED,
    "started": states.STARTED,
    "failed": states.FAILURE,
    "retried": states.RETRY,
    "succeeded": states.SUCCESS,
    "revoked": states.REVOKED,
    "rejected": states.REJECTED,
}
"""The state that a task is in after each event."""

_OF_RECEIVED = ("name", "args", "kwargs", "parent_id", "root_id", "retries", "eta", "expires")


def heartbeat_expires(
    timestamp: float, freq: float = 60, expire_window: float = EXPIRE_WINDOW
) -> float:
    """Return when a worker is taken for dead whose last heartbeat was at `timestamp`."""
    return timestamp + (freq or 0) * expire_window / 100


class Worker:
    """A worker, as its events tell of it."""

    expire_window = EXPIRE_WINDOW
    _fields = (
        "hostname",
        "pid",
        "freq",
        "heartbeats",
        "clock",
        "active",
        "processed",
        "loadavg",
        "sw_ident",
        "sw_ver",
        "sw_sys",
    )

    def __init__(
        self,
        hostname: str | None = None,
        pid: int | None = None,
        freq: float = 60,
        heartbeats: list[float] | None = None,
        clock: int = 0,
        active: int | None = None,
        processed: int | None = None,
        loadavg: Any = None,
        sw_ident: str | None = None,
        sw_ver: str | None = None,
        sw_sys: str | None = None,
    ) -> None:
        self.hostname, self.pid, self.freq, self.clock = hostname, pid, freq, clock
        self.heartbeats: list[float] = heartbeats if heartbeats is not None else []
        self.active, self.processed, self.loadavg = active or 0, processed or 0, loadavg
        self.sw_ident, self.sw_ver, self.sw_sys = sw_ident, sw_ver, sw_sys
        self.dropped = 0

    def event(
        self,
        type_: str | None,
        timestamp: float | None = None,
        local_received: float | None = None,
        fields: dict[str, Any] | None = None,
    ) -> None:
        """Take an event: "online", "heartbeat", "offline" or any other."""
        self.update(fields or {})
        if type_ == "offline":
            self.heartbeats.clear()
            return
        at = local_received or timestamp
        if type_ in ("online", "heartbeat") and at:
            # By this machine's clock: the worker's own may be wrong.
            insort(self.heartbeats, at)
            del self.heartbeats[:-HEARTBEATS]

    def update(self, f: dict[str, Any], **kw: Any) -> None:
        """Set fields."""
        for name, value in {**f, **kw}.items():
            if name in self._fields or name == "dropped":
                setattr(self, name, value)

    @property
    def heartbeat_expires(self) -> float:
        """Unix seconds after which it is taken for dead."""
        return heartbeat_expires(self.heartbeats[-1], self.freq, self.expire_window)

    @property
    def alive(self) -> bool:
        """Whether it was heard of lately and has not said goodbye."""
        return bool(self.heartbeats) and time.time() < self.heartbeat_expires

    @property
    def status_string(self) -> str:
        """ON or OFFLINE."""
        return "ON" if self.alive else "OFFLINE"

    @property
    def id(self) -> str:
        """Name and process."""
        return f"{self.hostname}.{self.pid}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Worker) and self.hostname == other.hostname

    def __hash__(self) -> int:
        return hash(self.hostname)

    def __repr__(self) -> str:
        return f"<Worker: {self.hostname} ({self.status_string})>"


class Task:
    """A task, as its events tell of it."""

    _fields = (
        "uuid",
        "name",
        "state",
        "received",
        "sent",
        "started",
        "rejected",
        "succeeded",
        "failed",
        "retried",
        "revoked",
        "args",
        "kwargs",
        "eta",
        "expires",
        "retries",
        "worker",
        "result",
        "exception",
        "timestamp",
        "runtime",
        "traceback",
        "exchange",
        "routing_key",
        "root_id",
        "parent_id",
        "client",
        "clock",
        "root",
        "parent",
        "children",
    )
    _info_fields = (
        "args",
        "kwargs",
        "retries",
        "result",
        "eta",
        "runtime",
        "expires",
        "exception",
        "exchange",
        "routing_key",
        "root_id",
        "parent_id",
    )
    merge_rules = {states.RECEIVED: _OF_RECEIVED}
    """What an event of an earlier state may still add."""

    name: str | None = None
    received: float | None = None
    sent: float | None = None
    started: float | None = None
    succeeded: float | None = None
    failed: float | None = None
    retried: float | None = None
    revoked: float | None = None
    rejected: float | None = None
    args: str | None = None
    kwargs: str | None = None
    eta: str | None = None
    expires: str | None = None
    retries: int | None = None
    worker: Worker | None = None
    result: str | None = None
    exception: str | None = None
    runtime: float | None = None
    traceback: str | None = None
    exchange: str | None = None
    routing_key: str | None = None
    root_id: str | None = None
    parent_id: str | None = None
    client: str | None = None
    queue: str | None = None
    state: str = states.PENDING
    timestamp: float | None = None
    clock = 0

    def __init__(
        self,
        uuid: str | None = None,
        cluster_state: State | None = None,
        children: Iterable[str] | None = None,
        **kwargs: Any,
    ) -> None:
        self.uuid = uuid
        self.cluster_state = cluster_state
        self._children = set(children or ())
        for name, value in kwargs.items():
            setattr(self, name, value)

    def event(
        self,
        type_: str,
        timestamp: float | None = None,
        local_received: float | None = None,
        fields: dict[str, Any] | None = None,
        precedence: Callable[[str], int] = states.precedence,
    ) -> None:
        """Take an event: "received", "started" and so on."""
        fields = {k: v for k, v in (fields or {}).items() if k not in ("type", "uuid")}
        state = STATE_OF.get(type_, type_.upper())
        if type_ in STATE_OF:
            setattr(self, type_, timestamp)
        again = states.RETRY in (state, self.state)  # what is retried is received once more
        if not again and precedence(state) > precedence(self.state):
            kept = self.merge_rules.get(state)
            for name, value in fields.items():
                if kept is None:
                    # As in Celery: a state that has no rule says all that it knows, late or not.
                    if value is not None and name in _TAKEN and name != "timestamp":
                        setattr(self, name, value)
                elif name in kept and getattr(self, name, None) is None:
                    setattr(self, name, value)
            return
        self.state, self.timestamp = state, timestamp
        for name, value in fields.items():
            if value is not None and name in _TAKEN:
                setattr(self, name, value)

    def info(
        self, fields: Iterable[str] | None = None, extra: Iterable[str] = ()
    ) -> dict[str, Any]:
        """Return what is known of some fields: those for a list of tasks where None."""
        names = (*(self._info_fields if fields is None else fields), *extra)
        found = {name: getattr(self, name, None) for name in names}
        return {name: value for name, value in found.items() if value is not None}

    def as_dict(self) -> dict[str, Any]:
        """Return every field."""
        return {name: getattr(self, name, None) for name in self._fields}

    @property
    def id(self) -> str | None:
        """The task id."""
        return self.uuid

    @property
    def ready(self) -> bool:
        """Whether it has ended."""
        return self.state in states.READY_STATES

    @property
    def origin(self) -> str | None:
        """Who sent it, or the worker that has it."""
        worker = self.worker
        return self.client if worker is None else worker.id

    @property
    def children(self) -> list[Task]:
        """The tasks that it sent, as far as they are known."""
        known = self.cluster_state.tasks if self.cluster_state is not None else {}
        return [known[uuid] for uuid in list(self._children) if uuid in known]

    @property
    def parent(self) -> Task | None:
        """The task that sent it, where it is known."""
        return self._other(self.parent_id)

    @property
    def root(self) -> Task | None:
        """The first task of its workflow, where it is known."""
        return self._other(self.root_id)

    def _other(self, uuid: str | None) -> Task | None:
        if uuid is None or self.cluster_state is None:
            return None
        return self.cluster_state.tasks.get(uuid)

    def __repr__(self) -> str:
        return f"<Task: {self.name}({self.uuid}) {self.state} clock:{self.clock}>"


_TAKEN = {*Task._fields, "queue"} - {"uuid", "state", "children", "parent", "root"}


class _Index(dict[str, "weakref.WeakSet[Task]"]):
    """Tasks by a name; also a function that returns the latest of one name."""

    def __init__(self, find: Callable[..., Iterator[tuple[str, Task]]]) -> None:
        super().__init__()
        self._find = find

    def __missing__(self, key: str) -> weakref.WeakSet[Task]:
        found = self[key] = weakref.WeakSet()
        return found

    def __call__(
        self, name: str, limit: int | None = None, reverse: bool = True
    ) -> Iterator[tuple[str, Task]]:
        """Yield (id, task) of one name, the latest first."""
        return self._find(name, limit, reverse)


class State:
    """Workers and tasks.

    :param callback: called with the picture and each event, after it was taken.
    :param max_workers_in_memory: workers kept; the longest unheard of is forgotten.
    :param max_tasks_in_memory: tasks kept; likewise.
    :param on_node_join: called with a worker that is new; `on_node_leave` with one that leaves.
    """

    def __init__(
        self,
        callback: Callable[[State, dict[str, Any]], Any] | None = None,
        workers: dict[str, Worker] | None = None,
        tasks: dict[str, Task] | None = None,
        taskheap: Any = None,
        max_workers_in_memory: int = 5000,
        max_tasks_in_memory: int = 10000,
        on_node_join: Callable[[Worker], Any] | None = None,
        on_node_leave: Callable[[Worker], Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.event_callback = callback
        self.workers: OrderedDict[str, Worker] = OrderedDict(workers or {})
        self.tasks: OrderedDict[str, Task] = OrderedDict(tasks or {})
        self.max_workers_in_memory = max_workers_in_memory
        self.max_tasks_in_memory = max_tasks_in_memory
        self.on_node_join, self.on_node_leave = on_node_join, on_node_leave
        self.event_count = self.task_count = 0
        self.tasks_by_type = _Index(self._tasks_by_type)
        self.tasks_by_worker = _Index(self._tasks_by_worker)
        self._mutex = threading.RLock()

    def event(self, event: dict[str, Any]) -> tuple[Any, str]:
        """Take an event; return ((worker or task, whether it is new), the kind), as Celery does."""
        with self._mutex:
            return self._event(event)

    def _event(self, event: dict[str, Any]) -> tuple[Any, str]:
        self.event_count += 1
        group, _, subject = str(event.get("type", "")).partition("-")
        found: tuple[Any, bool] | None = None
        if group == "worker" and event.get("hostname"):
            found = self.worker_event(subject, event)
        elif group == "task" and event.get("uuid"):
            found = self.task_event(subject, event)
        if self.event_callback is not None:
            self.event_callback(self, event)
        return found, subject

    def worker_event(self, type_: str, fields: dict[str, Any]) -> tuple[Worker, bool]:
        """Take an event of a worker."""
        worker, created = self.get_or_create_worker(str(fields["hostname"]))
        was = created or worker.alive
        worker.event(type_, fields.get("timestamp"), fields.get("local_received"), fields)
        if self.on_node_join is not None and (created or type_ == "online"):
            self.on_node_join(worker)
        if type_ == "offline":
            if was and self.on_node_leave is not None:
                self.on_node_leave(worker)
            self.workers.pop(str(fields["hostname"]), None)
        return worker, created

    def task_event(self, type_: str, fields: dict[str, Any]) -> tuple[Task, bool]:
        """Take an event of a task."""
        task, created = self.get_or_create_task(str(fields["uuid"]))
        said = dict(fields)
        hostname = said.pop("hostname", None)
        if type_ == "sent":
            task.client = hostname
        elif hostname:
            worker, _ = self.get_or_create_worker(str(hostname))
            if task.worker is not worker:
                if task.worker is not None:
                    self.tasks_by_worker[str(task.worker.hostname)].discard(task)
                task.worker = worker
                self.tasks_by_worker[str(hostname)].add(task)
        if type_ == "received":
            self.task_count += 1
        name = task.name
        task.event(type_, said.get("timestamp"), said.get("local_received"), said)
        if task.name and task.name != name:
            self.tasks_by_type[task.name].add(task)
        parent = self.tasks.get(task.parent_id) if task.parent_id else None
        if parent is not None:
            parent._children.add(str(task.uuid))
        return task, created

    def get_or_create_worker(self, hostname: str, **kwargs: Any) -> tuple[Worker, bool]:
        """Return the worker of a name, and whether it is new."""
        worker = self.workers.get(hostname)
        if worker is not None:
            worker.update(kwargs)
            self.workers.move_to_end(hostname)
            return worker, False
        worker = self.workers[hostname] = Worker(hostname, **kwargs)
        while len(self.workers) > self.max_workers_in_memory:
            self.workers.popitem(last=False)
        return worker, True

    def get_or_create_task(self, uuid: str) -> tuple[Task, bool]:
        """Return the task of an id, and whether it is new."""
        task = self.tasks.get(uuid)
        if task is not None:
            self.tasks.move_to_end(uuid)
            return task, False
        task = self.tasks[uuid] = Task(uuid, cluster_state=self)
        while len(self.tasks) > self.max_tasks_in_memory:
            self.tasks.popitem(last=False)
        return task, True

    # -- asking -----------------------------------------------------------------------------------

    def freeze_while(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function while no event is taken.

        :param clear_after: forget the tasks that have ended, afterwards.
        """
        clear_after = kwargs.pop("clear_after", False)
        with self._mutex:
            try:
                return fun(*args, **kwargs)
            finally:
                if clear_after:
                    self._clear()

    def clear_tasks(self, ready: bool = True) -> None:
        """Forget tasks: those that have ended, or all."""
        with self._mutex:
            self._clear_tasks(ready)

    def _clear_tasks(self, ready: bool) -> None:
        kept = {uuid: t for uuid, t in self.tasks.items() if not ready and not t.ready}
        self.tasks = OrderedDict(kept)

    def clear(self, ready: bool = True) -> None:
        """Forget everything; the tasks that have not ended are kept where `ready` is False."""
        with self._mutex:
            self._clear(ready)

    def _clear(self, ready: bool = True) -> None:
        self.workers.clear()
        self._clear_tasks(ready)
        self.event_count = self.task_count = 0

    def itertasks(
        self, limit: int | None = None, reverse: bool = False
    ) -> Iterator[tuple[str, Task]]:
        """Yield (id, task) in the order in which they were heard of last."""
        found = list(self.tasks.items())
        yield from islice(reversed(found) if reverse else iter(found), limit)

    def tasks_by_time(
        self, limit: int | None = None, reverse: bool = True
    ) -> Iterator[tuple[str, Task]]:
        """Yield (id, task), the latest first."""
        return self.itertasks(limit, reverse)

    tasks_by_timestamp = tasks_by_time

    def _where(
        self, fits: Callable[[Task], bool], limit: int | None, reverse: bool
    ) -> Iterator[tuple[str, Task]]:
        found = (pair for pair in self.itertasks(None, reverse) if fits(pair[1]))
        return islice(found, limit)

    def _tasks_by_type(
        self, name: str, limit: int | None = None, reverse: bool = True
    ) -> Iterator[tuple[str, Task]]:
        return self._where(lambda task: task.name == name, limit, reverse)

    def _tasks_by_worker(
        self, hostname: str, limit: int | None = None, reverse: bool = True
    ) -> Iterator[tuple[str, Task]]:
        return self._where(
            lambda task: task.worker is not None and task.worker.hostname == hostname,
            limit,
            reverse,
        )

    def task_types(self) -> list[str]:
        """Return the names of the tasks that were seen, sorted."""
        return sorted({task.name for task in list(self.tasks.values()) if task.name})

    def alive_workers(self) -> Iterator[Worker]:
        """Yield the workers that are alive."""
        return (worker for worker in list(self.workers.values()) if worker.alive)

    def __repr__(self) -> str:
        return f"<State: events={self.event_count} tasks={self.task_count}>"
