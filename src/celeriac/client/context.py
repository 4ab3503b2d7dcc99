"""`task.request`: what a running task may know of its call.

Owns: Context.  May import: kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celeriac.kernel.message import Envelope
from celeriac.kernel.wire import Headers, iso_time


def _delivery_info(self: Context) -> dict[str, Any]:
    envelope, head = self.envelope, self.head
    return {
        "exchange": head.exchange,
        "routing_key": head.routing_key or envelope.queue,
        "priority": envelope.priority,
        "redelivered": self.handed_out > 1,
    }


def _headers(self: Context) -> dict[str, Any]:
    """Everything that came in headers: Celery's own and the caller's."""
    head = self.head
    return {
        "task": head.task,
        "id": head.id,
        "root_id": head.root_id or head.id,
        "parent_id": head.parent_id,
        "group": head.group,
        "retries": self.retries,
        "timelimit": list(head.timelimit),
        "origin": head.origin,
        **head.extra,
    }


def _slot(self: Context) -> dict[str, Any] | None:
    """The chord that waits for this task: as the option `chord` takes it."""
    slot = self.head.slot
    if slot is None or self.embed.get("chain"):
        return None  # the end of its chain is the chord's
    return {"group": slot[0], "index": slot[1]}


_LAZY: dict[str, Callable[[Any], Any]] = {
    "root_id": lambda self: self.head.root_id or self.head.id,
    "parent_id": lambda self: self.head.parent_id,
    "group": lambda self: self.head.group,
    "group_index": lambda self: self.head.group_index,
    "shadow": lambda self: self.head.shadow,
    "task": lambda self: self.head.task,
    "origin": lambda self: self.head.origin,
    "lang": lambda self: self.head.lang,
    "timelimit": lambda self: list(self.head.timelimit),
    "time_limit": lambda self: self.head.timelimit[0],
    "soft_time_limit": lambda self: self.head.timelimit[1],
    "ignore_result": lambda self: bool(self.head.ignore_result),
    "correlation_id": lambda self: self.head.correlation_id or self.head.id,
    "reply_to": lambda self: self.head.reply_to,
    "argsrepr": lambda self: self.head.argsrepr or repr(self.args),
    "kwargsrepr": lambda self: self.head.kwargsrepr or repr(self.kwargs),
    "replaced_task_nesting": lambda self: self.head.replaced_task_nesting,
    "stamped_headers": lambda self: self.head.stamped_headers,
    "stamps": lambda self: self.head.stamps or {},
    "callbacks": lambda self: self.embed.get("callbacks"),
    "errbacks": lambda self: self.embed.get("errbacks"),
    "chain": lambda self: self.embed.get("chain"),
    "chord": lambda self: self.embed.get("chord") or _slot(self),
    "eta": lambda self: iso_time(self.envelope.not_before) if self.envelope.not_before else None,
    "expires": lambda self: (
        iso_time(self.envelope.expires_at) if self.envelope.expires_at else None
    ),
    "delivery_info": _delivery_info,
    "headers": _headers,
    "properties": lambda self: {
        "correlation_id": self.correlation_id,
        "reply_to": self.reply_to,
        "priority": self.envelope.priority,
        "content_type": self.head.content_type,
        "content_encoding": self.head.content_encoding,
    },
}

_NO_EMBED: dict[str, Any] = {}


class Context:
    """The request of one run of a task.

    What costs something to build is built when it is first read; every attribute may be set.
    """

    hostname: str | None = None
    is_eager = False
    called_directly = False
    utc = True
    handed_out = 1
    added = 0
    """Tasks that it has added to its chord."""
    retries = 0
    retry_asked: Any = None
    """The Retry of `retry(throw=False)`."""
    note: Any = None
    """Takes the states that the running task reports; None outside of a worker."""

    def __init__(
        self,
        head: Headers,
        envelope: Envelope,
        args: Any = (),
        kwargs: Any = None,
        embed: dict[str, Any] | None = None,
    ) -> None:
        self.head = head
        self.envelope = envelope
        self.id = head.id
        self.args = args
        self.kwargs = kwargs if kwargs is not None else {}
        self.embed = embed or _NO_EMBED
        self.retries = envelope.attempt
        self.children: list[Any] | None = None

    def __getattr__(self, name: str) -> Any:
        make = _LAZY.get(name)
        if make is None:
            if name != "head" and name in self.head.extra:
                return self.head.extra[name]  # as in Celery, where every header is an attribute
            raise AttributeError(f"a task's request has no {name!r}")
        value = self.__dict__[name] = make(self)
        return value

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or a header of the caller's, or `default`."""
        try:
            return getattr(self, name)
        except AttributeError:
            return self.head.extra.get(name, default)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set attributes."""
        self.__dict__.update(*args, **kwargs)

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def __repr__(self) -> str:
        return f"<Context: {self.head.task}[{self.id}] args={self.args!r} kwargs={self.kwargs!r}>"


def direct_context(task: str) -> Context:
    """Return the request of a task whose function is called in place."""
    context = Context(Headers(task, ""), Envelope("", "", b""))
    context.id = None  # type: ignore[assignment]
    context.called_directly = True
    return context
