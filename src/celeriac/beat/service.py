"""Beat as a part that runs: a thread that sends ticks and sleeps until the next one.

It sleeps on the bus, so that a change of the schedule wakes it.

Owns: Beat, ticker_of, store_of, place_of, scope_of, TOPIC.  Thread rule: `start`, `stop` and `join` from any thread.
May import: kernel, ports, client, beat.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celeriac.beat.entries import read_settings
from celeriac.beat.scheduler import PersistentScheduler, Scheduler
from celeriac.beat.ticker import Ticker
from celeriac.client.app import symbol
from celeriac.client.signals import beat_embedded_init, beat_init
from celeriac.kernel.errors import BrokerUnavailable, CapabilityMissing, CeleryError
from celeriac.kernel.redact import redact_url
from celeriac.ports.bus import Subscription
from celeriac.ports.schedules import ScheduleStore

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

logger = logging.getLogger("celeriac.beat")

TOPIC = "schedule"
"""On the bus: the scopes whose entries changed."""
OWN = frozenset({"celery.beat:PersistentScheduler", "celery.beat.PersistentScheduler"})
"""Names of Celery's default scheduler."""
DATABASE = "celeriac.contrib.django.schedulers:DatabaseScheduler"
RENAMED = {
    "django": DATABASE,
    "django_celery_beat.schedulers:DatabaseScheduler": DATABASE,
    "django_celery_beat.schedulers.DatabaseScheduler": DATABASE,
}
"""Other names of schedulers."""
INTERVAL = 5.0
"""Seconds of the longest sleep; a safety net, since what changes the schedule ends it."""
AWAY = 1.0
"""Seconds between attempts while the broker is away."""


def scope_of(app: Celeriac) -> str:
    """Return the name under which a program's entries are kept apart from those of others."""
    return app.main or "default"


def store_of(app: Celeriac, file: str | None = None) -> tuple[ScheduleStore, bool]:
    """Return the store of an app's entries, open, and whether it publishes to the app's broker.

    :param file: a SQLite file instead of the broker's own store.
    """
    made = _own_store(app) if file is None else None
    if made is not None:
        made.open()
        return made, False
    if file is None:
        for url in _places(app):
            try:
                store = app.family(url).schedules()
            except CapabilityMissing:
                continue
            store.open()
            return store, store.publishes and url == app.broker_url
        file = str(app.conf.beat_schedule_filename)
        logger.warning(
            "neither broker nor results keep a schedule: entries are in the file %s, which all beats "
            "of this program must share",
            file,
        )
    store = app.family(f"sqlite:///{Path(file).absolute()}").schedules()
    store.open()
    return store, False


def _places(app: Celeriac) -> list[str]:
    """Return where entries may be: what all beats of a program share already comes first."""
    places, results = [app.broker_url], app.backend_url
    if (
        results is None
        or results.startswith("memory")
        or "beat_schedule_filename" in app.conf.table()
    ):
        return places
    return [*places, results]


def place_of(app: Celeriac) -> str:
    """Return, for people, where the entries of an app are."""
    if getattr(_class_of(app.conf.beat_scheduler), "store", None) is not None:
        return f"the store of {app.conf.beat_scheduler}"
    for url in _places(app):
        with contextlib.suppress(CapabilityMissing):
            app.family(url).schedules()
            return redact_url(url)
    return f"{app.conf.beat_schedule_filename}, a file that all beats must share"


def _own_store(app: Celeriac) -> ScheduleStore | None:
    """Return the store that the class of `beat_scheduler` has for its entries; None without one."""
    found = _class_of(app.conf.beat_scheduler)
    make = getattr(found, "store", None)
    return None if make is None else make(app)


def ticker_of(app: Celeriac, file: str | None = None) -> Ticker:
    """Return what sends the entries of an app, its store open."""
    store, joined = store_of(app, file)
    return Ticker(app, scope_of(app), read_settings(app), store, joined=joined)


def _class_of(scheduler: Any) -> Any:
    """Return the class of a scheduler; None where it is celeriac's own beat."""
    if isinstance(scheduler, str) and scheduler in OWN:
        return None
    found = symbol(RENAMED.get(scheduler, scheduler)) if isinstance(scheduler, str) else scheduler
    return None if found is PersistentScheduler else found


class Beat:
    """Sends an app's periodic tasks until it is stopped.

    :param max_interval: seconds of the longest sleep; `beat_max_loop_interval`, or 5, where None.
    :param file: a SQLite file for the entries, instead of the broker's own store.
    :param scheduler: a class of Celery's kind, or `module:Class`, in place of celeriac's own;
        `beat_scheduler` where None.
    :param embedded: it runs in a worker.
    :param on_death: called with the error when the thread dies.
    """

    name = "beat"

    def __init__(
        self,
        app: Celeriac,
        *,
        max_interval: float | None = None,
        file: str | None = None,
        scheduler: Any = None,
        embedded: bool = False,
        on_death: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.app = app
        app.import_modules()
        self.max_interval = max_interval or app.conf.beat_max_loop_interval or INTERVAL
        self._file, self._on_death, self._embedded = file, on_death, embedded
        if isinstance(scheduler, str):
            app.conf.load({"beat_scheduler": scheduler}, "beat")  # where app.schedules looks too
        self._scheduler = _class_of(scheduler or app.conf.beat_scheduler)
        self.max_interval = min(
            self.max_interval, getattr(self._scheduler, "looks_each", self.max_interval)
        )
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._subscription: Subscription | None = None
        self.error: BaseException | None = None
        self.ready = threading.Event()

    def start(self) -> None:
        """Begin; a second call, or one after `stop`, does nothing."""
        with self._lock:
            if self._thread is None and not self._stopping.is_set():
                self._thread = threading.Thread(
                    target=self._main, name="celeriac-beat", daemon=True
                )
                beat_init.send(sender=self)
                if self._embedded:
                    beat_embedded_init.send(sender=self)
                self._thread.start()

    def stop(self) -> None:
        """Ask it to end; returns at once."""
        self._stopping.set()
        subscription = self._subscription
        if subscription is not None:
            subscription.wake()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has ended; False when `timeout` seconds have passed before."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def _main(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self.error = error
            logger.critical("beat died", exc_info=error)
            if self._on_death is not None:
                self._on_death(error)
        finally:
            self.ready.set()

    def _run(self) -> None:
        ticker: Ticker | Scheduler | None = None
        away = False
        try:
            while not self._stopping.is_set():
                try:
                    if ticker is None:
                        ticker = self._open()
                    rest = ticker.tick()
                    if away:
                        logger.info("beat: the broker is back")
                        away = False
                    self.ready.set()
                    self._sleep(rest)
                except BrokerUnavailable as error:
                    if not away:
                        logger.warning("beat waits for the broker: %s", error)
                    away = True
                    self._close()
                    self._stopping.wait(AWAY)
        finally:
            if isinstance(ticker, Scheduler):
                ticker.close()
            self._close()

    def _open(self) -> Ticker | Scheduler:
        if self._scheduler is not None and not hasattr(self._scheduler, "store"):
            logger.warning("%s keeps its entries by itself: run one beat", self._scheduler.__name__)
            made: Scheduler = self._scheduler(app=self.app, max_interval=self.max_interval)
            return made
        ticker = ticker_of(self.app, self._file)
        ticker.sync()
        return ticker

    def _sleep(self, rest: float | None) -> None:
        if self._subscription is None:
            self._subscription = self.app.bus.subscribe([TOPIC])
            return  # what changed before it listened is seen by another look
        wait = self.max_interval if rest is None else min(self.max_interval, rest)
        if wait > 0 and not self._stopping.is_set():
            began = time.monotonic()
            self._subscription.poll(wait)
            # A poll that gives up at once, for whatever reason, must not make this a busy loop.
            if time.monotonic() - began < 0.001:
                self._stopping.wait(min(wait, 0.001))

    def _close(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            try:
                subscription.close()
            except CeleryError:
                pass
