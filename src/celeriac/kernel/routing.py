"""Which queue, and with what priority, a task is sent to.

`task_routes` is a dict (exact names, globs, compiled patterns), a list of pairs, a function
`(name, args, kwargs, options, task=None, **kw)`, a router object with `route_for_task`, or a list
of these; the first answer wins, and what the call says beats it.

Owns: Router, declared_queues, refuse_exchanges.  May import: kernel.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from celeriac.kernel.entities import Queue, check_wire
from celeriac.kernel.errors import ImproperlyConfigured, QueueNotFound

__all__ = ["Queue", "Router", "declared_queues", "refuse_exchanges"]

Route = Mapping[str, Any]
RouteFunction = Callable[..., "Route | str | None"]


def declared_queues(task_queues: Any, default: str) -> dict[str, Queue]:
    """Return the queues that the settings declare, by name; only the default one where none are."""
    if not task_queues:
        return {default: Queue.of(default)}
    if isinstance(task_queues, Mapping):
        found = [Queue.of(value or name, name) for name, value in task_queues.items()]
    else:
        found = [Queue.of(value) for value in task_queues]
    return {queue.name: queue for queue in found}


def refuse_exchanges(task_queues: Any, default: str) -> None:
    """Refuse, for a broker with direct routing only, queues that need more.

    :raises ImproperlyConfigured: names the queue, and what in it needs AMQP.
    """
    for queue in declared_queues(task_queues, default).values():
        needs = queue.needs_amqp()
        if needs:
            raise ImproperlyConfigured(
                f"queue {queue.name!r} has {needs}, which only RabbitMQ can do: use an amqp:// "
                "broker, or send to queues by their names"
            )


class Router:
    """Answers where a task goes.

    :param routes: `task_routes`.
    :param queues: the declared queues by name.
    :param default: `task_default_queue`.
    :param create_missing: `task_create_missing_queues`.
    :param load: resolves a dotted path to a router.
    """

    def __init__(
        self,
        routes: Any,
        *,
        queues: Mapping[str, Queue],
        default: str,
        create_missing: bool = True,
        load: Callable[[str], Any] | None = None,
    ) -> None:
        self._queues = queues
        self._default = default
        self._create_missing = create_missing
        self._load = load
        self._by_key = {queue.routing_key: queue.name for queue in queues.values()}
        self._routers = list(self._compile(routes))
        self.static = all(isinstance(router, _Table) for router in self._routers)
        """True where the name alone decides, so that answers may be kept."""

    def _compile(self, routes: Any) -> Iterable[RouteFunction]:
        if not routes:
            return
        if isinstance(routes, Mapping):
            yield _Table(list(routes.items()))
        elif isinstance(routes, str):
            if self._load is None:
                raise ImproperlyConfigured(
                    f"task_routes names {routes!r}, which cannot be imported"
                )
            yield from self._compile(self._load(routes))
        elif hasattr(routes, "route_for_task"):
            router = routes() if isinstance(routes, type) else routes
            yield lambda name, args, kwargs, options, task=None, **kw: router.route_for_task(
                name, args, kwargs
            )
        elif callable(routes):
            yield cast("RouteFunction", routes)
        elif isinstance(routes, Sequence):
            pairs: list[tuple[Any, Any]] = []
            for item in routes:
                if isinstance(item, (tuple, list)) and len(item) == 2 and _is_pattern(item[0]):
                    pairs.append((item[0], item[1]))
                    continue
                if pairs:
                    yield _Table(pairs)
                    pairs = []
                yield from self._compile(item)
            if pairs:
                yield _Table(pairs)
        else:
            raise ImproperlyConfigured(
                f"task_routes cannot be {routes!r:.100}: a dict, a list, a function or a path"
            )

    def route(
        self, name: str, args: Any, kwargs: Any, options: Mapping[str, Any], task: Any = None
    ) -> dict[str, Any]:
        """Return the first route for this call as options, or an empty dict."""
        for router in self._routers:
            answer = router(name, args, kwargs, options, task=task)
            if answer:
                return {"queue": answer} if isinstance(answer, str) else dict(answer)
        return {}

    def wire_for(self, queue: str, options: Mapping[str, Any]) -> str:
        """Return the form in which a message goes to a queue: the options', else the queue's own.

        :raises ImproperlyConfigured: the options name an unknown one.
        """
        said = options.get("wire")
        if said is not None:
            return check_wire(said, f"a route to {queue}")
        declared = self._queues.get(queue)
        return "" if declared is None else declared.wire

    def queue_for(self, options: Mapping[str, Any]) -> str:
        """Return the name of the queue that these options lead to.

        :raises QueueNotFound: it is not declared, and missing ones are not made.
        """
        queue = options.get("queue")
        if queue is not None:
            name = queue if isinstance(queue, str) else Queue.of(queue).name
        elif options.get("routing_key"):
            key = str(options["routing_key"])
            name = self._by_key.get(key, key)
        else:
            name = self._default
        if name in self._queues or self._create_missing:
            return name
        raise QueueNotFound(
            f"queue {name!r} is not in task_queues ({', '.join(self._queues)}) "
            "and task_create_missing_queues is off"
        )


def _is_pattern(value: Any) -> bool:
    return isinstance(value, (str, re.Pattern))


class _Table:
    """Patterns and their routes, in order; exact names first."""

    def __init__(self, pairs: Sequence[tuple[Any, Any]]) -> None:
        self._exact: dict[str, Any] = {}
        self._patterns: list[tuple[re.Pattern[str], Any]] = []
        for pattern, route in pairs:
            if isinstance(pattern, re.Pattern):
                self._patterns.append((pattern, route))
            elif any(mark in pattern for mark in "*?["):
                self._patterns.append((re.compile(fnmatch.translate(pattern)), route))
            else:
                self._exact.setdefault(pattern, route)

    def __call__(self, name: str, args: Any, kwargs: Any, options: Any, **kw: Any) -> Any:
        if name in self._exact:
            return self._exact[name]
        return next((route for pattern, route in self._patterns if pattern.match(name)), None)
