"""Celery's signals: moments of a program at which functions of the user's are called.

A signal that nobody listens to costs one look at an empty tuple: whoever sends asks
`if task_prerun.receivers:` first.

Owns: Signal, and every signal.  Thread rule: any thread; `receivers` is replaced and never changed.
May import: the standard library only.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Hashable
from types import MethodType
from typing import Any, overload

logger = logging.getLogger("celeriac.signals")

Receiver = Callable[..., Any]
_Ref = Callable[[], Receiver | None]

FIRST_PAUSE, LONGEST_PAUSE = 2.0, 30.0
"""Seconds between the attempts of a receiver that was connected with `retry=True`."""


def _key(target: Any) -> Hashable:
    """Return what a receiver or sender is told apart by.

    Text stands for itself and a task for its name, so that a task connected as a shared one is
    found when an app's own of that name sends.
    """
    if isinstance(target, str):
        return target
    name = getattr(target, "signal_key", None)
    if isinstance(name, str):
        return name
    if isinstance(target, MethodType):
        return id(target.__self__), id(target.__func__)
    return id(target)


class Signal:
    """A moment.  Receivers are called in the order in which they were connected.

    :param name: for messages.
    :param providing_args: the names of what receivers are given, for people.
    """

    def __init__(self, name: str = "signal", providing_args: tuple[str, ...] = ()) -> None:
        self.name = name
        self.providing_args = frozenset(providing_args)
        self.receivers: tuple[tuple[Hashable, Hashable, _Ref], ...] = ()
        """(receiver's key, sender's key or None for any sender, the receiver or a weak reference)."""
        self._lock = threading.RLock()  # a receiver may be collected while it is held

    @overload
    def connect(
        self,
        fun: Receiver,
        sender: Any = None,
        weak: bool = True,
        dispatch_uid: Hashable = None,
        retry: bool = False,
    ) -> Receiver: ...
    @overload
    def connect(
        self,
        fun: None = None,
        sender: Any = None,
        weak: bool = True,
        dispatch_uid: Hashable = None,
        retry: bool = False,
    ) -> Callable[[Receiver], Receiver]: ...

    def connect(
        self,
        fun: Any = None,
        sender: Any = None,
        weak: bool = True,
        dispatch_uid: Hashable = None,
        retry: bool = False,
    ) -> Any:
        """Have a function called; also a decorator, with arguments or without.

        :param fun: takes `**kwargs`; one that is connected already is not connected twice.
        :param sender: only for what this object, task or task name sends.
        :param weak: forget the function when nothing else refers to it, as to a local one.
        :param dispatch_uid: what to tell the receiver apart by, instead of the function itself.
        :param retry: call it again after an error, with growing pauses, until it returns.
        """

        def connect(receiver: Receiver) -> Receiver:
            self._connect(receiver, sender, weak, dispatch_uid, retry)
            return receiver

        return connect if fun is None else connect(fun)

    def _connect(
        self, fun: Receiver, sender: Any, weak: bool, dispatch_uid: Hashable, retry: bool
    ) -> None:
        if not callable(fun):
            raise TypeError(f"a receiver of {self.name} must be callable, not {fun!r:.100}")
        key = dispatch_uid if dispatch_uid is not None else _key(fun)
        of = None if sender is None else _key(sender)
        ref: _Ref
        if weak:
            kind: Any = weakref.WeakMethod if isinstance(fun, MethodType) else weakref.ref
            ref = kind(fun, self._forget)
        else:
            ref = _Held(fun)
        if retry:
            ref = _Patient(ref, self.name)
        with self._lock:
            if not any(k == key and s == of for k, s, _ in self.receivers):
                self.receivers = (*self.receivers, (key, of, ref))

    def disconnect(
        self,
        receiver: Receiver | None = None,
        sender: Any = None,
        weak: bool | None = None,
        dispatch_uid: Hashable = None,
    ) -> bool:
        """Have a function called no more; return whether it was connected.

        :param weak: accepted, and means nothing.
        """
        key = dispatch_uid if dispatch_uid is not None else _key(receiver)
        of = None if sender is None else _key(sender)
        with self._lock:
            left = tuple(r for r in self.receivers if not (r[0] == key and r[1] == of))
            found = len(left) != len(self.receivers)
            self.receivers = left
        return found

    def has_listeners(self, sender: Any = None) -> bool:
        """Return whether somebody would be called for what `sender` sends."""
        return bool(self.receivers) and bool(self._live(sender))

    def send(self, sender: Any, **named: Any) -> list[tuple[Receiver, Any]]:
        """Call the receivers; return (receiver, what it returned or raised) of each.

        An exception is logged and not raised: a listener cannot end what it listens to.
        """
        answers: list[tuple[Receiver, Any]] = []
        if not self.receivers:
            return answers
        for receiver in self._live(sender):
            answer: Any
            try:
                answer = receiver(signal=self, sender=sender, **named)
            except Exception as error:
                logger.exception("the receiver %r of the signal %s failed", receiver, self.name)
                answer = error
            answers.append((receiver, answer))
        return answers

    send_robust = send

    def _live(self, sender: Any) -> list[Receiver]:
        of = None if sender is None else _key(sender)
        found = (ref() for _, s, ref in self.receivers if s is None or s == of)
        return [receiver for receiver in found if receiver is not None]

    def _forget(self, gone: Any) -> None:
        with self._lock:
            self.receivers = tuple(r for r in self.receivers if r[2]() is not None)

    def __repr__(self) -> str:
        return f"<Signal: {self.name}>"


class _Held:
    """Looks like a weak reference and holds what it refers to."""

    def __init__(self, fun: Receiver) -> None:
        self._fun = fun

    def __call__(self) -> Receiver:
        return self._fun


class _Patient:
    """A reference to a receiver that is called until it returns."""

    def __init__(self, ref: _Ref, name: str) -> None:
        self._ref, self._name = ref, name

    def __call__(self) -> Receiver | None:
        fun = self._ref()
        if fun is None:
            return None

        def call(**named: Any) -> Any:
            pause = FIRST_PAUSE
            while True:
                try:
                    return fun(**named)
                except Exception as error:
                    logger.warning(
                        "the receiver %r of the signal %s failed, it is called again in %.0f s: %s",
                        fun,
                        self._name,
                        pause,
                        error,
                    )
                time.sleep(pause)
                pause = min(LONGEST_PAUSE, pause * 1.5)

        return call


def _signal(name: str, args: str = "") -> Signal:
    return Signal(name, tuple(args.split()))


# -- sending: the sender is the task's name -------------------------------------------------------
before_task_publish = _signal(
    "before_task_publish", "body exchange routing_key headers properties declare retry_policy"
)
after_task_publish = _signal("after_task_publish", "body headers exchange routing_key")

# -- a task in a worker: the sender is the task ---------------------------------------------------
task_received = _signal("task_received", "request")
task_prerun = _signal("task_prerun", "task_id task args kwargs")
task_postrun = _signal("task_postrun", "task_id task args kwargs retval state")
task_success = _signal("task_success", "result runtime")
task_failure = _signal("task_failure", "task_id exception args kwargs traceback einfo")
task_retry = _signal("task_retry", "request reason einfo")
task_revoked = _signal("task_revoked", "request terminated signum expired")
task_rejected = _signal("task_rejected", "message exc")
task_unknown = _signal("task_unknown", "message exc name id")
task_internal_error = _signal(
    "task_internal_error", "task_id args kwargs request exception traceback einfo"
)

# -- the worker -----------------------------------------------------------------------------------
celeryd_init = _signal("celeryd_init", "instance conf options")
celeryd_after_setup = _signal("celeryd_after_setup", "instance conf")
worker_init = _signal("worker_init")
worker_before_create_process = _signal("worker_before_create_process")
worker_process_init = _signal("worker_process_init")
worker_process_shutdown = _signal("worker_process_shutdown", "pid exitcode")
worker_ready = _signal("worker_ready")
worker_shutting_down = _signal("worker_shutting_down", "sig how exitcode")
worker_shutdown = _signal("worker_shutdown")
heartbeat_sent = _signal("heartbeat_sent")

# -- the program ----------------------------------------------------------------------------------
import_modules = _signal("import_modules")
setup_logging = _signal("setup_logging", "loglevel logfile format colorize")
after_setup_logger = _signal("after_setup_logger", "logger loglevel logfile format colorize")
after_setup_task_logger = _signal(
    "after_setup_task_logger", "logger loglevel logfile format colorize"
)
user_preload_options = _signal("user_preload_options", "app options")
beat_init = _signal("beat_init")
beat_embedded_init = _signal("beat_embedded_init")

# -- what celeriac does not have: these can be connected to and are never sent ----------------------
task_sent = _signal("task_sent", "task_id task args kwargs eta taskset")
eventlet_pool_started = _signal("eventlet_pool_started")
eventlet_pool_preshutdown = _signal("eventlet_pool_preshutdown")
eventlet_pool_postshutdown = _signal("eventlet_pool_postshutdown")
eventlet_pool_apply = _signal("eventlet_pool_apply", "target args kwargs")

SIGNALS = tuple(found for found in dict(globals()).values() if isinstance(found, Signal))
"""Every signal there is."""
