"""The app: settings, tasks and connections; where the parts of a program are put together.

Owns: Celeriac, shared_task.  Thread rule: any thread; connections are remade after a fork.
May import: kernel, ports, client.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
import importlib
import importlib.util
import inspect
import logging
import os
import socket
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, cast, overload

from celeriac.client import current, eager_canvas, workflow
from celeriac.client.announce import sent_event
from celeriac.client.builtins import BUILT_IN
from celeriac.client.compose import Plan, compose
from celeriac.client.groups import GroupResult, ResultSet
from celeriac.client.publisher import Batch, Collected, Publisher
from celeriac.client.pydantic import with_models
from celeriac.client.result import AsyncResult
from celeriac.client.sender import Sender
from celeriac.client.signals import Signal, import_modules
from celeriac.client.task import AsyncTask, Task, arguments_checker
from celeriac.client.transport import driver_options, with_redis_parts
from celeriac.client.watcher import Watcher
from celeriac.kernel import config as configuration
from celeriac.kernel import schedules as schedule_kinds
from celeriac.kernel.clock import LOCAL, SYSTEM_CLOCK, Clock
from celeriac.kernel.config import Config
from celeriac.kernel.errors import (
    BackendStoreError,
    ImproperlyConfigured,
    NotRegistered,
)
from celeriac.kernel.events import Line
from celeriac.kernel.message import Envelope, Record
from celeriac.kernel.routing import Router, declared_queues, refuse_exchanges
from celeriac.kernel.signature import Signature, set_app_finder
from celeriac.kernel.wire import Headers
from celeriac.ports.broker import Broker
from celeriac.ports.bus import Bus
from celeriac.ports.orders import Orders
from celeriac.ports.registry import Family, find_fixups, open_family, scheme_of
from celeriac.ports.results import ResultBackend

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

logger = logging.getLogger("celeriac.client")

_apps: weakref.WeakSet[Celeriac] = weakref.WeakSet()
_shared: list[Callable[[Celeriac], Task[..., Any]]] = []
"""What makes each shared task an app's own."""

_OWN_STORE = ("sqlite", "memory")
"""Schemes of brokers that keep results in the same place unless told otherwise."""


class TaskRegistry(dict[str, "Task[..., Any]"]):
    """The tasks of an app by name."""

    def __missing__(self, name: str) -> Task[..., Any]:
        raise NotRegistered(name)

    def regular(self) -> dict[str, Task[..., Any]]:
        """Return the tasks that are not built in."""
        return {name: task for name, task in self.items() if not name.startswith("celery.")}


class Celeriac:
    """A program's task queue: Celery's `Celery`, on celeriac's engine.

    :param main: the name of the program's main package; prefix of tasks made in `__main__`.
    :param broker: URL of the broker; the setting `broker_url`.
    :param backend: URL of the result store; the setting `result_backend`.
    :param include: modules to import in a worker.
    :param changes: settings, over what the configuration says.
    :param config_source: an object, module or path with settings.
    :param namespace: prefix of the settings' names there.
    :param fixups: classes that tie it to frameworks; by default Django's where
        DJANGO_SETTINGS_MODULE is set.
    :param kwargs: more settings, such as `task_default_queue=`.
    :raises ImproperlyConfigured: a setting is unknown or wrong; the message names the right one.
    """

    task_cls: type[Task[..., Any]] = Task

    def __init__(
        self,
        main: str | None = None,
        loader: Any = None,
        backend: str | None = None,
        amqp: Any = None,
        events: Any = None,
        log: Any = None,
        control: Any = None,
        set_as_current: bool = True,
        tasks: Mapping[str, Task[..., Any]] | None = None,
        broker: str | Sequence[str] | None = None,
        include: Sequence[str] | str | None = None,
        changes: Mapping[str, Any] | None = None,
        config_source: Any = None,
        fixups: Any = None,
        task_cls: type[Task[..., Any]] | None = None,
        autofinalize: bool = True,
        namespace: str | None = None,
        strict_typing: bool = True,
        **kwargs: Any,
    ) -> None:
        self.main = main
        self.strict_typing = strict_typing
        self._home = _caller_module()
        self._keywords = {**(changes or {}), **kwargs}
        if broker is not None:
            self._keywords["broker_url"] = broker
        if backend is not None:
            self._keywords["result_backend"] = backend
        if include is not None:
            self._keywords["include"] = include
        self._source: Any = config_source
        self._namespace = namespace
        self._silent = False
        self._conf: Config | None = None
        self._lock = threading.RLock()
        self._tasks = TaskRegistry(tasks or {})
        self._bound = 0
        self._autodiscover: list[tuple[Any, str | None]] = []
        self._imported = False
        self._families: dict[str, Family] = {}
        self._stand_in: tuple[Family, Watcher | None] | None = None
        self.on_configure = Signal("on_configure")
        self.on_after_configure = Signal("on_after_configure", ("source",))
        self.on_after_finalize = Signal("on_after_finalize")
        self.on_after_fork = Signal("on_after_fork")
        self._told: set[tuple[str, Any]] = set()
        self.clock: Clock = SYSTEM_CLOCK
        self.teller: Callable[[Sequence[Line]], None] | None = None
        """Takes this process's events where a worker is there to send them."""
        self._reset_runtime()
        found = find_fixups(os.environ) if fixups is None else fixups
        self.fixups = [
            (symbol(fixup) if isinstance(fixup, str) else fixup)(self) for fixup in found
        ]
        if task_cls is not None:
            self.task_cls = task_cls
        elif self.task_cls is Task:
            self.task_cls = _task_class(found)
        self.origin = _origin()
        if set_as_current:
            self.set_default()
        if self._keywords:
            Config().load(self._keywords, "keyword")  # a wrong one is an error here, not later
        _apps.add(self)

    def _reset_runtime(self) -> None:
        self._publisher: Publisher | None = None
        self._sender: Sender | None = None
        self._watcher: Watcher | None = None
        self._router: tuple[int, Router] | None = None
        self._plans: dict[str, Plan] = {}
        self._executor: ThreadPoolExecutor | None = None
        self._broker: Broker | None = None
        self._results: ResultBackend | None = None
        self._events: Any = None

    # -- settings -------------------------------------------------------------------------------

    @property
    def conf(self) -> Config:
        """The settings: attributes and mapping, Celery's names."""
        conf = self._conf
        if conf is None:
            conf = self._load_conf()
        return conf

    def _load_conf(self) -> Config:
        with self._lock:
            if self._conf is None:
                conf = Config()
                if self._source is not None:
                    self._load_source(conf)
                conf.load(self._keywords, "keyword")
                # Last, as in Celery: who deploys a program has the last word.
                conf.load_environment(os.environ)
                self._conf = conf
        return self._conf

    def _load_source(self, conf: Config) -> None:
        source, origin = self._source, "configuration"
        if isinstance(source, str):
            origin = source
            try:
                source = symbol(source)
            except ImportError:
                if self._silent:
                    return
                raise
        conf.load(configuration.read_object(source, self._namespace), origin)

    def config_from_object(
        self,
        obj: Any,
        silent: bool = False,
        force: bool = False,
        namespace: str | None = None,
    ) -> None:
        """Read settings from a module, an object, a mapping, or the path of one.

        :param obj: e.g. "proj.celeryconfig" or "django.conf:settings".
        :param silent: ignore a module that cannot be imported.
        :param force: read now instead of at the first use.
        :param namespace: prefix of the names there, e.g. "CELERY".
        :raises ImproperlyConfigured: a setting is unknown or wrong.
        """
        self._source, self._silent = obj, silent
        self._namespace = namespace or self._namespace
        self._conf = None
        self._reset_runtime()
        if force:
            self._load_conf()

    def config_from_envvar(self, name: str, silent: bool = False, force: bool = False) -> bool:
        """Read settings from the module that an environment variable names.

        :raises ImproperlyConfigured: the variable is not set, unless `silent`.
        """
        module = os.environ.get(name)
        if not module:
            if silent:
                return False
            raise ImproperlyConfigured(
                f"the environment variable {name} is not set: it names the settings' module"
            )
        self.config_from_object(module, silent=silent, force=force)
        return True

    def add_defaults(self, source: Any) -> None:
        """Add settings that anything else beats: a mapping or a function that returns one."""
        values: Any = source() if callable(source) else source
        conf = self.conf
        conf.load({k: v for k, v in values.items() if conf.origin(k) == "default"}, "default")

    @property
    def timezone(self) -> dt.tzinfo:
        """The time zone of naive datetimes: `timezone`; where it is not set, UTC, or by `enable_utc`
        the machine's."""
        zone = self.conf.timezone
        if zone is None:
            return dt.UTC if self.conf.enable_utc else LOCAL
        return schedule_kinds.zone_of(zone)

    def now(self) -> dt.datetime:
        """Return the current time in the app's time zone."""
        return dt.datetime.fromtimestamp(self.clock.time(), self.timezone)

    @property
    def result_expires(self) -> float:
        """Seconds that a result is kept; 0 means for ever."""
        return self.conf.result_expires_seconds or 0.0

    # -- tasks ----------------------------------------------------------------------------------

    @property
    def tasks(self) -> TaskRegistry:
        """The tasks by name, shared ones included."""
        self.finalize()
        return self._tasks

    def finalize(self, auto: bool = False) -> None:
        """Make the shared tasks that were declared so far this app's own."""
        while self._bound < len(_shared):
            with self._lock:
                if self._bound >= len(_shared):
                    return
                make = _shared[self._bound]
                self._bound += 1
            make(self)

    @overload
    def task(self, fun: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def task(self, fun: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self, *, bind: Literal[True], **options: Any
    ) -> Callable[[Callable[Concatenate[Any, P], R]], Task[P, R]]: ...
    @overload
    def task(
        self, *, bind: Literal[False] = False, **options: Any
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...

    def task(self, fun: Any = None, **options: Any) -> Any:
        """Make a function a task: `@app.task` or `@app.task(name=..., bind=True, ...)`.

        :param options: `name`, `base` (a Task class), `bind` (pass the task as `self`),
            `pydantic` and attributes of the task; unknown ones become attributes too.
        """
        if fun is None:
            return functools.partial(self._make_task, options=options)
        return self._make_task(fun, options=options)

    def _make_task(self, fun: Any, *, options: Mapping[str, Any]) -> Task[..., Any]:
        task = build_task(fun, dict(options), self.task_cls, self.gen_task_name)
        return self._tasks.get(task.name) or self.register_task(task)

    def register_task(self, task: Any, **options: Any) -> Task[..., Any]:
        """Add a task object, or an instance of a Task class.

        :raises ImproperlyConfigured: it has no name.
        """
        if isinstance(task, type):
            task = task()
        if not task.name:
            kind = type(task)
            task.name = self.gen_task_name(kind.__name__, kind.__module__)
        if task._check is None and task.typing:
            task._check = arguments_checker(task.run, bound=False)
        task._app = self
        self._annotate(task)
        task.on_bound(self)
        self._tasks[task.name] = task
        return cast("Task[..., Any]", task)

    def _annotate(self, task: Task[..., Any]) -> None:
        if self._conf is None and self._source is not None:
            return  # the settings are not read yet; a worker annotates when they are
        annotations = self.conf.task_annotations
        if isinstance(annotations, Mapping):
            for key in ("*", task.name):
                for name, value in (annotations.get(key) or {}).items():
                    setattr(task, name, value)

    def gen_task_name(self, name: str, module: str) -> str:
        """Return the name of a task: its module and function; `__main__` becomes `main`."""
        if module == "__main__":
            module = self.main or _main_name()
        return f"{module}.{name}" if module else name

    @property
    def Task(self) -> type[Task[..., Any]]:  # noqa: N802 - Celery's name
        """The class of this app's tasks; assignable."""
        return self.task_cls

    @Task.setter
    def Task(self, cls: type[Task[..., Any]]) -> None:  # noqa: N802
        self.task_cls = cls

    def autodiscover_tasks(
        self,
        packages: Sequence[str] | Callable[[], Sequence[str]] | None = None,
        related_name: str | None = "tasks",
        force: bool = False,
    ) -> None:
        """Import the module `related_name` of each package when the app's modules are imported.

        :param packages: names, or a function that returns them; Django's installed apps where None.
        :param force: import now.
        :raises ModuleNotFoundError: a package does not exist; a missing `tasks` module is skipped.
        """
        self._autodiscover.append((packages, related_name))
        self._imported = False
        if force:
            self._discover(packages, related_name)

    def _discover(self, packages: Any, related_name: str | None) -> None:
        names: Any = packages() if callable(packages) else packages
        if names is None:
            names = _django_apps()
        for package in names:
            try:
                module = importlib.import_module(package)
            except ModuleNotFoundError:
                package = _django_package(package)
                module = importlib.import_module(package)
            if not related_name:
                continue
            path = f"{package}.{related_name}"
            if hasattr(module, "__path__") and importlib.util.find_spec(path) is not None:
                importlib.import_module(path)

    def import_modules(self) -> None:
        """Import the modules of `imports`, `include` and `autodiscover_tasks`, as a worker does."""
        if not self._imported:
            self._imported = True
            self._import_modules()
        self._tell_ready()

    def _import_modules(self) -> None:
        conf = self.conf
        for _, answer in import_modules.send(sender=self):
            if isinstance(answer, Exception):
                raise answer  # what is not imported would be missed much later, and elsewhere
        for name in (*conf.imports, *conf.include):
            importlib.import_module(name)
        for packages, related_name in self._autodiscover:
            self._discover(packages, related_name)
        for task in self.tasks.values():
            self._annotate(task)

    def _tell_ready(self) -> None:
        """Send `on_after_configure` and `on_after_finalize`, once to each receiver.

        Not when the settings are read: that may be in the middle of the module whose tasks a
        receiver adds to the schedule.
        """
        for signal, named in (
            (self.on_configure, {}),
            (self.on_after_configure, {"source": self.conf}),
            (self.on_after_finalize, {}),
        ):
            for key, _, ref in signal.receivers:
                receiver = ref()
                if receiver is not None and (signal.name, key) not in self._told:
                    self._told.add((signal.name, key))
                    try:
                        receiver(signal=signal, sender=self, **named)
                    except Exception:
                        logger.exception("the receiver %r of %s failed", receiver, signal.name)

    def add_periodic_task(
        self,
        schedule: Any,
        sig: Any,
        args: Any = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        **opts: Any,
    ) -> str:
        """Add an entry to `beat_schedule`; return its name.

        :param schedule: seconds, a timedelta, or a schedule such as `crontab(hour=4)`.
        :param sig: the signature of a task.
        :param name: of the entry; what the signature looks like where None.
        :param opts: `misfire`, `grace` and `timezone` of the entry; others are the message's.
        """
        sig = sig if isinstance(sig, Signature) else self.signature(sig)
        named = ("misfire", "grace", "timezone")
        parts: dict[str, Any] = {key: opts.pop(key) for key in named if key in opts}
        name = name or repr(sig)
        entry: dict[str, Any] = {
            "schedule": schedule,
            "task": sig.task,
            "args": tuple(args) or tuple(sig.args or ()),
            "kwargs": dict(kwargs or sig.kwargs or {}),
            "options": {**(sig.options or {}), **opts},
            **parts,
        }
        self.conf.beat_schedule[name] = entry
        return name

    # -- sending --------------------------------------------------------------------------------

    @property
    def router(self) -> Router:
        """Where tasks go, by the settings."""
        conf = self.conf
        found = self._router
        if found is None or found[0] != conf.version:
            router = Router(
                conf.task_routes,
                queues=declared_queues(conf.task_queues, conf.task_default_queue),
                default=conf.task_default_queue,
                create_missing=conf.task_create_missing_queues,
                load=symbol,
            )
            found = self._router = (conf.version, router)
        return found[1]

    def plan(self, name: str, task: Any) -> Plan:
        """Return what is the same for every call of a task."""
        # A property is a call, and this is on the way of each send.
        conf = self._conf if self._conf is not None else self.conf
        if task is not None:
            plan: Plan | None = task._plan
            if plan is None or plan.version != conf.version or task._app is not self:
                plan = Plan(self, name, task)
                if task._app is self:
                    task._plan = plan
            return plan
        plan = self._plans.get(name)
        if plan is None or plan.version != conf.version:
            plan = self._plans[name] = Plan(self, name, None)
        return plan

    def send_task(
        self,
        name: str,
        args: Any = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncResult[Any]:
        """Send a task by its name, known here or not; options as in `Task.apply_async`."""
        retry, policy = options.pop("retry", None), options.pop("retry_policy", None)
        task = self._tasks.get(name)
        envelope, head = compose(self, name, tuple(args or ()), kwargs or {}, options, task)
        self.publish(envelope, retry, policy)
        return self.sent(envelope, head, name, options.get("add_to_parent", True))

    def publish(
        self, envelope: Envelope, retry: bool | None, policy: Mapping[str, Any] | None
    ) -> None:
        """Send one envelope, with the retries that the call or the settings ask for."""
        publisher = self._publisher
        if publisher is None:
            publisher = self._make_publisher()
        conf = self._conf if self._conf is not None else self.conf
        if retry is None:
            retry = conf.task_publish_retry
        if policy is None:
            policy = conf.task_publish_retry_policy
        publisher.publish((envelope,), policy if retry else None)

    def _make_publisher(self) -> Publisher:
        self._tell_ready()
        with self._lock:
            if self._publisher is None:
                conf = self.conf
                sent = self.tell_sent if conf.task_send_sent_event else None
                self._publisher = Publisher(
                    lambda: self.broker, conf.broker_publish_timeout, on_sent=sent
                )
            return self._publisher

    def sent(self, envelope: Envelope, head: Headers, name: str, trail: bool) -> AsyncResult[Any]:
        """Return the result of what was sent, noted as a child of the task that runs here."""
        result: AsyncResult[Any] = AsyncResult(envelope.id, None, name, self)
        if head.ignore_result:
            result.ignored = True
        if trail:
            request = current.get_current_request()
            if request is not None and not request.called_directly:
                if request.children is None:
                    request.children = []
                request.children.append([[envelope.id, None], None])
        return result

    def batch(self) -> Batch:
        """Collect what is sent in a `with` block and send it in as few calls as can be.

        >>> with app.batch():  # doctest: +SKIP
        ...     results = [add.delay(n, n) for n in range(10_000)]
        """
        conf = self.conf
        policy = conf.task_publish_retry_policy if conf.task_publish_retry else None
        return Batch(self._publisher or self._make_publisher(), policy)

    def collected(self) -> Collected:
        """Collect what is sent in a `with` block, and send none of it."""
        return Collected(self._publisher or self._make_publisher())

    def tell_published(self, envelopes: Sequence[Envelope]) -> None:
        """Tell signals and events of envelopes that a store published by itself."""
        (self._publisher or self._make_publisher()).tell(envelopes)

    def signature(
        self, task: Any, args: Any = None, kwargs: Any = None, **options: Any
    ) -> Signature:
        """Return a signature of this app."""
        if isinstance(task, Mapping):
            if not isinstance(task, Signature):
                return Signature.from_dict(task, app=self)
            if task._app is None:
                task.app = self
            return task
        return Signature(task, args, kwargs, app=self, **options)

    def send_canvas(self, sig: Signature, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
        """Send a workflow: what `apply_async` of a chain, a group or a chord does."""
        if self.conf.task_always_eager:
            return eager_canvas.apply_canvas(self, sig, args, kwargs, options)
        return workflow.send_canvas(self, sig, args, kwargs, options)

    def apply_canvas(self, sig: Signature, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
        """Run a workflow here."""
        return eager_canvas.apply_canvas(self, sig, args, kwargs, options)

    def freeze_canvas(self, sig: Signature, task_id: str | None, fixed: Mapping[str, Any]) -> Any:
        """Fix every id in a workflow."""
        return workflow.freeze_canvas(self, sig, task_id, fixed)

    def resume_canvas(self, sig: Signature, result: Any) -> Any:
        """Send a chain again from the step that failed."""
        return workflow.resume_canvas(self, sig, result)

    def send_envelopes(self, envelopes: Sequence[Envelope]) -> None:
        """Publish envelopes in one call, or with the batch that is open here."""
        conf = self.conf
        policy = conf.task_publish_retry_policy if conf.task_publish_retry else None
        (self._publisher or self._make_publisher()).publish(envelopes, policy)

    def AsyncResult(self, task_id: str, **kwargs: Any) -> AsyncResult[Any]:  # noqa: N802
        """Return the result of a task id."""
        return AsyncResult(task_id, app=self, **kwargs)

    @functools.cached_property
    def GroupResult(self) -> type[GroupResult]:  # noqa: N802
        """The class of groups' results, for this app: `app.GroupResult.restore(id)`."""
        return type("GroupResult", (GroupResult,), {"_app": self})

    @functools.cached_property
    def ResultSet(self) -> type[ResultSet]:  # noqa: N802
        """The class of sets of results, for this app."""
        return type("ResultSet", (ResultSet,), {"_app": self})

    def revoke(
        self, ids: Sequence[str], *, terminate: bool = False, signal: str | int = "SIGTERM"
    ) -> None:
        """Keep tasks from running: those that wait are taken back and become REVOKED.

        :param terminate: end those that run, where the pool can.
        :param signal: with `terminate`, what the process of a task is sent.
        """
        self.control.revoke(ids, terminate=terminate, signal=signal)

    # -- connections ----------------------------------------------------------------------------

    @property
    def broker_url(self) -> str:
        """The URL of the broker: a SQLite file beside the app where none is set."""
        if self._stand_in is not None:
            return "memory://stand-in"
        url = self.conf.broker_url
        if url is None:
            self._refuse_parts()
            return f"sqlite:///{self.default_file}"
        return str(url)

    def _refuse_parts(self) -> None:
        """Refuse a broker given in parts: the program would send to a local file, and not say so.

        :raises ImproperlyConfigured: names what to set instead.
        """
        for name in ("broker_host", "broker_transport", "broker_read_url", "broker_write_url"):
            if self.conf[name] is not None:
                raise ImproperlyConfigured(
                    f"{name} is set and broker_url is not: put scheme, host and user into broker_url"
                )

    @property
    def backend_url(self) -> str | None:
        """The URL of the result store; None where results are not kept."""
        if self._stand_in is not None:
            return self.broker_url
        url: str | None = self.conf.result_backend
        if url is None and scheme_of(self.broker_url) in _OWN_STORE:
            return self.broker_url
        if url in ("disabled", "disabled://"):
            return None
        if url is not None and scheme_of(url) == "rpc":
            return self.broker_url  # results come back the way that tasks go
        return None if url is None else with_redis_parts(self.conf, url)

    @property
    def default_file(self) -> Path:
        """The SQLite file that is used with no configuration."""
        folder, name = self._home
        return folder / f"{name}.celeriac.db"

    def family(self, url: str) -> Family:
        """Return the driver family of a URL, one per app."""
        if self._stand_in is not None:
            return self._stand_in[0]
        with self._lock:
            family = self._families.get(url)
            if family is None:
                options = driver_options(
                    self.conf,
                    url,
                    broker=url == self.broker_url,
                    results=url == self.backend_url,
                )
                family = self._families[url] = open_family(url, options)
            return family

    @property
    def broker(self) -> Broker:
        """The open broker."""
        broker = self._broker
        if broker is None:
            broker = self.family(self.broker_url).broker()
            if not broker.caps.exchanges:
                refuse_exchanges(self.conf.task_queues, self.conf.task_default_queue)
            broker.open()
            self._broker = broker
        return broker

    @property
    def results(self) -> ResultBackend:
        """The open result store.

        :raises BackendStoreError: results are not kept by these settings.
        """
        results = self._results
        if results is None:
            url = self.backend_url
            if url is None:
                raise BackendStoreError(
                    "no results are kept: set result_backend, for instance to a sqlite:/// URL"
                )
            results = self.family(url).results()
            results.open()
            self._results = results
        return results

    backend = results

    @property
    def keeps_results(self) -> bool:
        """Whether a result store is configured."""
        return self.backend_url is not None

    @property
    def bus(self) -> Bus:
        """The bus of the broker's family."""
        return self.family(self.broker_url).bus()

    @property
    def orders(self) -> Orders | None:
        """The standing orders of the fleet: in the broker's store, or in that of the results."""
        urls = (self.broker_url, self.backend_url)
        families = [self.family(url) for url in urls if url is not None]
        keeps = (find for family in families if (find := getattr(family, "orders", None)))
        return next((find() for find in keeps), None)

    @property
    def watcher(self) -> Watcher:
        """What waits for results in this process."""
        with self._lock:
            if self._watcher is None and self._stand_in is not None:
                self._watcher = self._stand_in[1]
            if self._watcher is None:
                self._watcher = Watcher(self.results)
            return self._watcher

    def store(self, records: Sequence[Record]) -> None:
        """Write task states, where results are kept."""
        if self.keeps_results:
            self.results.store(records)

    @contextlib.contextmanager
    def standing_in(
        self, family: Family, *, clock: Clock = SYSTEM_CLOCK, watcher: Watcher | None = None
    ) -> Iterator[None]:
        """Use one family as broker, results and bus inside the block, whatever the settings say.

        For tests; `celeriac.testing` is made of it.

        :param clock: what the app takes the time from meanwhile.
        :param watcher: waits for results meanwhile.
        """
        former = self._stand_in, self.clock
        self.close()
        self._stand_in, self.clock = (family, watcher), clock
        try:
            yield
        finally:
            self.close()
            self._stand_in, self.clock = former

    async def send_with(self, call: Callable[[], S]) -> S:
        """Await the sending of what `call` publishes; return what it returns.

        `call` must not block.  What other coroutines send meanwhile goes in the same round trip.
        """
        with self._lock:
            publisher = self._publisher or self._make_publisher()
            if self._sender is None:
                conf = self.conf
                policy = conf.task_publish_retry_policy if conf.task_publish_retry else None
                self._sender = Sender(publisher, policy)
            sender = self._sender
        collected = Collected(publisher)
        with collected:
            made = call()
        if collected.envelopes:
            await sender.send(collected.envelopes)
        return made

    async def in_thread(self, function: Callable[..., S], *args: Any, **kwargs: Any) -> S:
        """Await a function that may block, in a thread, with this context's variables."""
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(4, thread_name_prefix="celeriac-async")
            executor = self._executor
        call = functools.partial(copy_context().run, function, *args, **kwargs)
        future: Awaitable[Any] = asyncio.get_running_loop().run_in_executor(executor, call)
        return cast("S", await future)

    def close(self) -> None:
        """Let go of every connection; they are made again when they are needed."""
        with self._lock:
            families, self._families = self._families, {}
            executor, sender, events = self._executor, self._sender, self._events
            watcher = self._watcher
            self._reset_runtime()
        if watcher is not None:
            watcher.close()
        if sender is not None:
            sender.close()
        if events is not None:
            # Its last events still go out, through the connections that end below.
            self._families = families
            events.close()
            self._families = {}
        for family in families.values():
            family.close()
        if executor is not None:
            executor.shutdown(wait=False)

    def after_fork(self) -> None:
        """Forget, in a child, every connection that is its parent's."""
        self._lock = threading.RLock()
        families, self._families = self._families, {}
        self._reset_runtime()
        self.origin = _origin()
        if self._stand_in is not None:
            families[""] = self._stand_in[0]
        for family in families.values():
            family.after_fork()
        if self.on_after_fork.receivers:
            self.on_after_fork.send(sender=self)

    def __enter__(self) -> Celeriac:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- being the current one ------------------------------------------------------------------

    def set_default(self) -> None:
        """Make this the app that `shared_task` and `current_app` fall back to."""
        current.set_default_app(self)

    def set_current(self) -> None:
        """Make this the current app of this context."""
        current.push_app(self)

    @property
    def current_task(self) -> Any:
        """The task that runs in this context, or None."""
        return current.get_current_task()

    # -- doors to the layers above, which may import this one -------------------------------------

    @property
    def control(self) -> Any:
        """Remote control of the workers."""
        from celeriac.control.client import Control

        return Control(self)

    @property
    def events(self) -> Any:
        """Events of tasks and workers: `Receiver`, `State`, `default_dispatcher`."""
        from celeriac.events.app import Events

        with self._lock:
            if self._events is None:
                self._events = Events(self)
            return self._events

    def tell(self, batch: Sequence[Line]) -> None:
        """Send events soon, see `kernel.events`; through the worker where this is one."""
        if self.teller is not None:
            self.teller(batch)
        else:
            self.events.emitter.put(batch)

    def tell_sent(self, envelopes: Sequence[Envelope]) -> None:
        """Send an event for each envelope that was sent."""
        self.tell([sent_event(envelope, self.clock.time()) for envelope in envelopes])

    @property
    def schedules(self) -> Any:
        """The entries of the schedule: look at them and change them while beat runs."""
        from celeriac.beat.schedules import Schedules

        return Schedules(self)

    def Beat(self, **options: Any) -> Any:  # noqa: N802 - Celery's name
        """Return a beat of this app; `start()` runs it in a thread, `run()` until it is stopped."""
        from celeriac.beat.service import Beat

        return Beat(self, **options)

    def Worker(self, *, beat: bool = False, **options: Any) -> Any:  # noqa: N802 - Celery's name
        """Return a worker of this app; `start()` runs it.

        :param beat: run a beat in it.
        """
        from celeriac.control.ears import Ears, standing_orders
        from celeriac.events.heart import Heart
        from celeriac.worker.worker import Worker

        made: list[Any] = [Ears if self.conf.worker_enable_remote_control else standing_orders]
        if beat:
            made.append(
                lambda worker: self.Beat(embedded=True, on_death=lambda _: worker.stop("cold"))
            )
        return Worker(self, make_services=made, make_heart=Heart, **options)

    def worker_main(self, argv: Sequence[str] | None = None) -> None:
        """Run `celeriac worker` with this app, e.g. `app.worker_main(["worker", "-l", "INFO"])`."""
        from celeriac.cli import main

        main(list(argv) if argv is not None else None, app=self)

    start = worker_main

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.main or '__main__'} at {id(self):#x}>"

    def __reduce__(self) -> Any:
        return _rebuild, (type(self), self.main, dict(self._keywords))


Celery = Celeriac


def _rebuild(cls: type[Celeriac], main: str | None, keywords: dict[str, Any]) -> Celeriac:
    return cls(main, set_as_current=False, **keywords)


def _origin() -> str:
    return f"gen{os.getpid()}@{socket.gethostname()}"


def _caller_module() -> tuple[Path, str]:
    """Return the folder and name of the top-level package that makes the app."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("celeriac."):
        frame = frame.f_back
    scope = frame.f_globals if frame is not None else {}
    name: str = scope.get("__name__", "")
    spec = scope.get("__spec__")
    if name == "__main__" and spec is not None:
        name = spec.name
    file = scope.get("__file__")
    top = name.partition(".")[0]
    if file is None:
        return Path.cwd(), "tasks"
    path = Path(file).resolve()
    if top == "__main__":
        return path.parent, path.stem
    # A module proj.sub.celery lies two folders below the one that holds the package.
    depth = name.count(".") + (1 if path.stem == "__init__" else 0)
    return path.parents[depth], top


def _main_name() -> str:
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return Path(file).stem if file else "__main__"


def symbol(path: str) -> Any:
    """Return what a dotted path names: `module`, `module:attribute` or `module.attribute`."""
    module, _, attribute = path.partition(":")
    if attribute:
        return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        parent, _, attribute = path.rpartition(".")
        if not parent or error.name != path:
            raise
        found = importlib.import_module(parent)
        if not hasattr(found, attribute):
            raise
        return getattr(found, attribute)


def _django_apps() -> Iterable[str]:
    apps = sys.modules.get("django.apps")
    if apps is None:
        raise ImproperlyConfigured(
            "autodiscover_tasks() without packages needs Django: name the packages"
        )
    apps.apps.check_apps_ready()
    return [config.name for config in apps.apps.get_app_configs()]


def _django_package(name: str) -> str:
    """Return the package of a line in INSTALLED_APPS that names a class, else the line itself."""
    apps = sys.modules.get("django.apps")
    for config in apps.apps.get_app_configs() if apps is not None else ():
        if f"{type(config).__module__}.{type(config).__qualname__}" == name:
            return str(config.name)
    return name


def build_task(
    fun: Callable[..., Any],
    options: dict[str, Any],
    default_base: type[Task[..., Any]],
    gen_name: Callable[[str, str], str],
) -> Task[..., Any]:
    """Return a task whose `run` is `fun`, of a class of its own."""
    base = options.pop("base", None) or default_base
    bind = options.pop("bind", False)
    name = options.pop("name", None) or gen_name(fun.__name__, fun.__module__)
    for unused in ("shared", "lazy"):
        options.pop(unused, None)
    if not callable(fun):
        raise TypeError(f"a task must be a function, not {fun!r:.100}")
    run = fun
    dump = None
    if options.pop("pydantic", False):
        settings = {
            key: options.pop(f"pydantic_{key}", default)
            for key, default in (("strict", None), ("context", None), ("dump_kwargs", None))
        }
        run, dump = with_models(fun, bound=bind, **settings)
    kind: type[Task[..., Any]] = base
    if inspect.iscoroutinefunction(fun) and issubclass(AsyncTask, base):
        kind = AsyncTask
    attributes: dict[str, Any] = {
        "run": run if bind else staticmethod(run),
        "name": name,
        "__module__": fun.__module__,
        "__doc__": fun.__doc__ or base.__doc__,
        "__wrapped__": staticmethod(fun),
        "pydantic_dump": staticmethod(dump) if dump is not None else None,
        **options,
    }
    made: Any = type(fun.__name__, (kind,), attributes)
    task: Task[..., Any] = made()
    if task.typing:
        task._check = arguments_checker(fun, bound=bind)
    vars(task).update(__name__=fun.__name__, __qualname__=fun.__qualname__)
    return task


def _shared_name(name: str, module: str) -> str:
    return f"{_main_name() if module == '__main__' else module}.{name}"


@overload
def shared_task(fun: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
@overload
def shared_task(fun: Callable[P, R], /) -> Task[P, R]: ...
@overload
def shared_task(
    *, bind: Literal[True], **options: Any
) -> Callable[[Callable[Concatenate[Any, P], R]], Task[P, R]]: ...
@overload
def shared_task(
    *, bind: Literal[False] = False, **options: Any
) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def shared_task(fun: Any = None, /, **options: Any) -> Any:
    """Make a function a task of whichever app is the current one, before any app exists.

    For libraries and Django apps, which do not know the project's app.
    """
    if fun is None:
        return functools.partial(_share, options=options)
    return _share(fun, options=options)


def _task_class(fixups: Iterable[Any]) -> type[Task[..., Any]]:
    return next((kind for f in fixups if (kind := getattr(f, "task_class", None))), Task)


def _share(fun: Any, *, options: Mapping[str, Any]) -> Task[..., Any]:
    base = Task if "base" in options else _task_class(find_fixups(os.environ))
    task = build_task(fun, dict(options), base, _shared_name)

    def make(app: Celeriac) -> Task[..., Any]:
        if task.name not in app._tasks:
            if "base" in options or app.task_cls is base:
                bound = task.bind(app)
                app._annotate(bound)
                app._tasks[task.name] = bound
            else:
                named = {**options, "name": task.name}
                app.register_task(build_task(fun, named, app.task_cls, app.gen_task_name))
        return app._tasks[task.name]

    _shared.append(make)
    return task


for _name, (_function, _bind) in BUILT_IN.items():
    _share(_function, options={"name": _name, "bind": _bind, "base": Task})
set_app_finder(current.get_current_app)


def _after_fork() -> None:
    for app in list(_apps):
        app.after_fork()


os.register_at_fork(after_in_child=_after_fork)
current.set_app_factory(Celeriac)
schedule_kinds.default_app[:] = [current.get_current_app]
