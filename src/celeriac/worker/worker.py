"""The worker: one list of services, started in order and stopped in reverse.

Owns: Worker.  Thread rule: `start` in the main thread (or any other, then without signals);
`stop` from any.  May import: kernel, ports, client, worker.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from celeriac.client import signals
from celeriac.client.app import Celeriac
from celeriac.kernel.errors import BrokerUnavailable, ImproperlyConfigured, TaskRevokedError
from celeriac.kernel.events import Line
from celeriac.kernel.message import Delivery, Record, Settlement, Verdict
from celeriac.kernel.routing import Queue, declared_queues
from celeriac.kernel.settings import BY_NAME
from celeriac.kernel.states import REVOKED
from celeriac.ports.broker import Broker, Consumer
from celeriac.ports.pool import Pool, TaskFrame
from celeriac.ports.registry import find_pool
from celeriac.ports.results import ResultBackend
from celeriac.worker.execute import Execution
from celeriac.worker.fetcher import FIRST_PAUSE, LONGEST_PAUSE, Fetcher
from celeriac.worker.gates import NewLimits, RateGate, Revoked, RevokedStamps
from celeriac.worker.held import Held
from celeriac.worker.keeper import Keeper
from celeriac.worker.limits import refuse_limits, warn_of_long_tasks
from celeriac.worker.remote import Remote
from celeriac.worker.service import Part, Service
from celeriac.worker.settler import Settler
from celeriac.worker.shutdown import Shutdown
from celeriac.worker.telling import Teller, shared_switch

logger = logging.getLogger("celeriac.worker")

EX_SOFTWARE = 70
"""Exit status of a worker that stopped because a part of it died (sysexits.h)."""


class _EndedEarly(Exception):
    """The end was asked for before the worker had begun."""


class Heart(Part, Protocol):
    """What sends this worker's events."""

    @property
    def enabled(self) -> bool:
        """Whether events of tasks are sent; may be changed at any time."""
        ...

    @enabled.setter
    def enabled(self, on: bool) -> None: ...

    def put(self, batch: Sequence[Line]) -> None:
        """Send these soon."""
        ...

    def heartbeat(self) -> None:
        """Send a heartbeat now."""
        ...


class NoFrame:
    """The frame of the parent process, which runs no tasks.

    :param tell: sends events.
    """

    def __init__(self, tell: Callable[[Sequence[Line]], None]) -> None:
        self._tell = tell

    def limits(self, soft: float | None, hard: float | None) -> None:
        """Do nothing: nothing runs here."""

    def noted(self, batch: Sequence[Record]) -> None:
        """Do nothing: nothing runs here."""

    def told(self, batch: Sequence[Line]) -> None:
        """Send events."""
        self._tell(batch)


class Worker:
    """Takes tasks from queues and runs them.

    :param hostname: node name; `name@host`, "celery@" and the machine's name where None.
    :param pool: prefork, threads, asyncio or solo; `worker_pool` where None.
    :param concurrency: tasks at the same time; `worker_concurrency`, or the cores, where None.
    :param queues: names to consume; those that the settings declare where None.
    :param exclude_queues: names to leave out.
    :param max_memory_per_child: KiB after which a child process is replaced.
    :param time_limit: hard limit in seconds of tasks that have none; `soft_time_limit` likewise.
    :param purge: drop what waits in the queues before starting.
    :param autoscale: (most, least) places in the pool, as many as the work needs.
    :param task_events: send events of tasks; `worker_send_task_events` where None.
    :param without_heartbeat: send none of the worker's own events.
    :param heartbeat_interval: seconds between two of them.
    :param make_heart: makes what sends events.
    :param make_services: makes more services, given the worker (remote control).
    :raises ImproperlyConfigured: what was asked for cannot be done; the message says what to change.
    """

    def __init__(
        self,
        app: Celeriac,
        *,
        hostname: str | None = None,
        pool: str | None = None,
        concurrency: int | None = None,
        queues: Sequence[str] | str | None = None,
        exclude_queues: Sequence[str] | str | None = None,
        max_tasks_per_child: int | None = None,
        max_memory_per_child: int | None = None,
        time_limit: float | None = None,
        soft_time_limit: float | None = None,
        prefetch_multiplier: int | None = None,
        purge: bool = False,
        autoscale: tuple[int, int] | None = None,
        task_events: bool | None = None,
        without_heartbeat: bool = False,
        heartbeat_interval: float | None = None,
        make_services: Sequence[Callable[[Worker], Part]] = (),
        make_heart: Callable[..., Heart] | None = None,
        **accepted: Any,
    ) -> None:
        self.app = app
        app.import_modules()
        conf = app.conf
        self.hostname = hostname or f"celery@{socket.gethostname()}"
        # Receivers change settings here, for this worker by its name: before any is read.
        options = {"pool": pool, "concurrency": concurrency, "queues": queues, **accepted}
        signals.celeryd_init.send(sender=self.hostname, instance=self, conf=conf, options=options)
        self.pool_name = pool or conf.worker_pool
        self.concurrency = (
            (autoscale[1] if autoscale else concurrency)
            or conf.worker_concurrency
            or os.cpu_count()
            or 1
        )
        self.queues = _selected(conf, queues, exclude_queues)
        self.limits = (
            time_limit or conf.task_time_limit,
            soft_time_limit or conf.task_soft_time_limit,
        )
        self.purge = purge
        multiplier = (
            prefetch_multiplier
            if prefetch_multiplier is not None
            else conf.worker_prefetch_multiplier
        )
        limited: dict[str, Any] = {}
        kind = find_pool(self.pool_name)
        if kind.traits.isolates:
            limited = {
                "max_tasks_per_child": max_tasks_per_child or conf.worker_max_tasks_per_child,
                "max_memory_per_child": max_memory_per_child or conf.worker_max_memory_per_child,
                "begin_within": conf.worker_proc_alive_timeout,
            }
        self.pool: Pool = kind(self.concurrency, **limited)
        refuse_limits(app, self.pool.traits, self.limits)
        self.concurrency = self.pool.size()  # solo takes one at a time, whatever was asked for
        self.held = Held(self.concurrency, multiplier)
        self.revoked = Revoked(self._settle_revoked)
        self.revoked_stamps = RevokedStamps(self._settle_revoked)
        self.new_limits = NewLimits()
        self.rates = RateGate(
            {n: t.setting("rate_limit") for n, t in app.tasks.items() if t.setting("rate_limit")}
        )
        self.started_at = 0.0
        self.ready = threading.Event()
        self._make_services = make_services
        self._services: list[Part] = []
        self._failed = False
        self.shutdown = Shutdown(self)
        self.remote = Remote(self)
        self.autoscale = autoscale
        self._settler: Settler | None = None
        self._fetcher: Fetcher | None = None
        self._consumer: Consumer | None = None
        self._execution: Execution | None = None
        self._switch = shared_switch()
        self.events: Heart | None = None
        """What sends events; those of tasks while its `enabled` is true."""
        if make_heart is not None:
            beats = not without_heartbeat
            self.events = make_heart(self, self._switch, beats=beats, frequency=heartbeat_interval)
            wanted = conf.worker_send_task_events if task_events is None else task_events
            self.events.enabled = wanted
        self._teller = Teller(app, self.hostname, switch=self._switch, tell=self.told)
        signals.worker_init.send(sender=self)

    # -- life -----------------------------------------------------------------------------------

    def start(self) -> int:
        """Run until stopped; return the exit status: 0, or 70 where a part of the worker died."""
        with self.shutdown.signals():
            signals.celeryd_after_setup.send(
                sender=self.hostname, instance=self, conf=self.app.conf
            )
            try:
                self._begin()
            except _EndedEarly:
                self.pool.stop(deadline=0.0)
                return EX_SOFTWARE if self._failed else 0
            except BaseException:
                self.pool.stop(deadline=0.0)
                raise
            self.started_at = time.time()
            self._say_ignored()
            self.ready.set()
            logger.info("%s ready.", self.hostname)
            signals.worker_ready.send(sender=self)
            self.shutdown.wait()
            self.shutdown.run()
        return EX_SOFTWARE if self._failed else 0

    run = start

    def _begin(self) -> None:
        app = self.app
        if self.pool.traits.isolates:
            # Once: every child is forked from the one process that is forked from this one now.
            signals.worker_before_create_process.send(sender=self)
        app.teller = self.told
        # The pool first: a process pool forks, and must do so before there are threads.
        self.pool.start(self._make_run, self)
        names = [queue.name for queue in self.queues]
        broker, results, consumer = self._reach(names)
        self._consumer, lease = consumer, app.conf.worker_lease
        warn_of_long_tasks(app, broker.caps.holds_for, self.limits)
        self.held.on_suspect_done = consumer.wake
        self._execution = self._make_execution(NoFrame(self.told))
        settler = Settler(consumer, broker, results, self.held, on_death=self._died)
        fetcher = Fetcher(
            consumer,
            self.pool,
            self.held,
            gates=(self.revoked, self.revoked_stamps, self.rates, self.new_limits),
            ended=settler.ended,
            crowded=lambda: settler.crowded,
            log_tasks=app.conf.worker_log_tasks,
            received=self._teller.received,
            on_death=self._died,
        )
        keeper = Keeper(
            consumer, broker, results, self.pool, self.held, lease=lease, on_death=self._died
        )
        self._settler, self._fetcher = settler, fetcher
        if self.autoscale is not None:
            self.remote.autoscale(*self.autoscale)
        scaling = self._services
        self._services = [
            keeper,
            settler,
            *scaling,
            *(make(self) for make in self._make_services),
            fetcher,
        ]
        if self.events is not None:
            self.events.start()
        for service in self._services:
            service.start()

    def _reach(self, names: Sequence[str]) -> tuple[Broker, ResultBackend | None, Consumer]:
        """Open broker, store and queues, as often as it takes: they may start after us.

        :raises BrokerUnavailable: one is away, and the settings forbid to wait for it.
        """
        app, pause = self.app, 0.0
        while True:
            try:
                broker = app.broker
                results: ResultBackend | None = app.results if app.keeps_results else None
                broker.declare(names)
                if self.purge:
                    for name in names:
                        logger.warning("purged %d messages from %s", broker.purge(name), name)
                lease = app.conf.worker_lease
                return broker, results, broker.consume(names, owner=self.hostname, lease=lease)
            except BrokerUnavailable as error:
                if not app.conf.broker_connection_retry_on_startup:
                    raise
                pause = min(LONGEST_PAUSE, pause * 2 or FIRST_PAUSE)
                logger.error("%s; trying again in %.1f s", error, pause)
                if self.shutdown.wait(pause):
                    raise _EndedEarly from None

    def _say_ignored(self) -> None:
        """Say, in one line, which settings of Celery's have no effect here."""
        found = [n for n in self.app.conf.table() if n in BY_NAME and BY_NAME[n].ignored]
        if found:
            logger.info(
                "settings without effect here: %s (see `celeriac doctor`)", ", ".join(found)
            )

    def _make_execution(self, frame: TaskFrame) -> Execution:
        return Execution(
            self.app,
            frame,
            hostname=self.hostname,
            traits=self.pool.traits,
            limits=self.limits,
            switch=self._switch,
        )

    def _make_run(self, frame: TaskFrame) -> Execution:
        """Return what runs tasks in a process or thread of the pool, which is told of it."""
        execution = self._make_execution(frame)
        if self.pool.traits.isolates or self.pool.traits.name == "solo":  # as in Celery
            execution.process_begins()
        return execution

    def stop(self, how: str = "warm") -> None:
        """Ask the worker to end: "warm" lets tasks finish until the deadline, "cold" does not."""
        self.shutdown.request(how)

    def _died(self, service: Service, error: BaseException) -> None:
        self._failed = True
        self.shutdown.request("cold")

    def finish(self, deadline: float) -> None:
        """Stop every part in order; `deadline` is in `time.monotonic()` seconds."""
        keeper, settler, *others = self._services
        for service in reversed(others):
            service.stop()
        for service in reversed(others):
            service.join(5.0)
        # What has not begun goes back at once, the last first so that none begins meanwhile.
        for delivery in reversed(self.held.all()):
            self.pool.cancel(delivery.envelope.id, hard=False)
        self.returned(self.pool.stop(deadline=deadline))
        settler.stop()
        settler.join(self.app.conf.worker_lease)
        keeper.stop()
        keeper.join(5.0)
        if self._consumer is not None:
            self._consumer.close()
        signals.worker_shutdown.send(sender=self)
        if self.events is not None:
            self.events.stop()
            self.events.join(5.0)
        self.app.teller = None
        self.app.close()

    # -- what the pool says (ports.pool.Sink) ------------------------------------------------------

    def ended(self, batch: Sequence[Settlement]) -> None:
        """Take deliveries that ended."""
        self.held.left_pool(len(batch), sum(settlement.runtime for settlement in batch))
        self.new_limits.take_back(batch)
        self.remote.count(settlement.delivery for settlement in batch)
        if self._settler is not None:
            self._settler.ended(batch)

    def returned(self, batch: Sequence[Delivery]) -> None:
        """Take deliveries that were never started: they go back."""
        if batch:
            self.held.left_pool(len(batch), None)
            released = [Settlement(item, Verdict.RELEASE) for item in batch]
            self.new_limits.take_back(released)
            if self._settler is not None:
                self._settler.ended(released)

    def lost(self, delivery: Delivery, error: Exception) -> None:
        """Take a delivery whose process is gone."""
        self.held.left_pool(1, None)
        if self._settler is not None and self._execution is not None:
            settlement = self._execution.lost(delivery, error)
            self.new_limits.take_back((settlement,))
            self._settler.ended([settlement])

    def noted(self, batch: Sequence[Record]) -> None:
        """Take states of running tasks."""
        if self._settler is not None:
            self._settler.noted(batch)

    def told(self, batch: Sequence[Line]) -> None:
        """Take events, to be sent soon."""
        if self.events is not None:
            self.events.put(batch)

    def failed(self, why: str) -> None:
        """End, as the pool can run nothing any more: what it holds goes back to the queues."""
        logger.critical("the pool has failed, and the worker ends: %s", why)
        self._failed = True
        self.shutdown.request("warm")

    def figures(self) -> dict[str, Any]:
        """Return what heartbeats say of the worker."""
        return {"active": self.held.in_pool, "processed": self.held.total}

    # -- remote control ---------------------------------------------------------------------------

    def watch(self, queues: Sequence[str]) -> None:
        """Consume these queues from now on; none stops the fetching."""
        consumer, fetcher = self._consumer, self._fetcher
        if consumer is None or fetcher is None:
            return
        if queues:
            consumer.watch(queues)
            fetcher.consuming.set()
        else:
            fetcher.consuming.clear()
            consumer.watch(())  # what the broker has pushed goes back
        consumer.wake()
        # Who is told that a queue is paused may rely on it.
        fetcher.pass_claim()

    def resize(self, size: int) -> int:
        """Run up to `size` tasks at a time; return how many it became.

        :raises ImproperlyConfigured: the pool has one size.
        """
        self.pool.resize(size)
        self.held.slots = self.concurrency = found = self.pool.size()
        self.held.wake()
        if found != size:
            raise ImproperlyConfigured(f"the {self.pool.traits.name} pool runs {found} at a time")
        return found

    def add_service(self, service: Service) -> None:
        """Have one service more; it is started with the others, or now where those run."""
        if self.ready.is_set():
            service.start()
            self._services.insert(2, service)
        else:
            self._services.append(service)

    def _settle_revoked(self, delivery: Delivery) -> Settlement:
        assert self._execution is not None
        return self._execution.end_revoked(delivery, TaskRevokedError("revoked"), REVOKED)


def _selected(
    conf: Any, wanted: Sequence[str] | str | None, excluded: Sequence[str] | str | None
) -> list[Queue]:
    declared = declared_queues(conf.task_queues, conf.task_default_queue)
    names = _names(wanted) or list(declared)
    left_out = set(_names(excluded))
    unknown = [name for name in names if name not in declared]
    if unknown and not conf.task_create_missing_queues:
        raise ImproperlyConfigured(
            f"-Q names {', '.join(unknown)}, not in task_queues ({', '.join(declared)}), "
            "and task_create_missing_queues is off"
        )
    missing = left_out - set(declared) - set(names)
    if missing:
        raise ImproperlyConfigured(f"-X names {', '.join(sorted(missing))}, which is no queue here")
    found = [declared.get(name) or Queue.of(name) for name in names if name not in left_out]
    if not found:
        raise ImproperlyConfigured("no queue is left to consume: see -Q and -X")
    return found


def _names(value: Sequence[str] | str | None) -> list[str]:
    if value is None:
        return []
    parts = value.split(",") if isinstance(value, str) else list(value)
    return [part.strip() for part in parts if part.strip()]
