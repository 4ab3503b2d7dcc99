"""What must exist on the server before it is used: queues, exchanges, bindings, the ladder of delays.

Owns: Topology, dead_queue.
Thread rule: any thread; what was declared is remembered for one connection.
May import: kernel, drivers.amqp.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any

from celeriac.drivers.amqp import delay
from celeriac.drivers.amqp.server import Server
from celeriac.drivers.amqp.steps import Refused, Step
from celeriac.kernel.errors import BrokerRejected
from celeriac.kernel.routing import Queue

logger = logging.getLogger("celeriac.amqp")

NOT_FOUND, IN_USE, DIFFERENT = 404, 405, 406
_TYPE = re.compile(r"inequivalent arg 'x-queue-type' .* but current is the value '(\w+)'", re.S)
_ARGUMENT = re.compile(r"inequivalent arg '([^']+)' .*?: received (.*?) but current is (.*)", re.S)


def dead_queue(queue: str) -> str:
    """Return the name of the queue in which what was buried from `queue` lies."""
    return f"{queue}.dead"


class Topology:
    """Declares what is needed, once for each connection.

    :param queues: what the settings declare, by name.
    :param max_priority: `task_queue_max_priority`; None declares no priorities.
    :param queue_type: `task_default_queue_type` of queues that say nothing themselves.
    :param ladder_type: `broker_native_delayed_delivery_queue_type`.
    """

    def __init__(
        self,
        server: Server,
        queues: Mapping[str, Queue],
        *,
        max_priority: int | None,
        queue_type: str,
        ladder_type: str,
    ) -> None:
        self._server = server
        self._specs = dict(queues)
        self._max_priority = max_priority
        self._queue_type = queue_type
        self._ladder_type = ladder_type
        self._lock = threading.RLock()
        self._epoch = 0
        self._declared: set[str] = set()
        self._ladder = False
        self._types: dict[str, str] = {}
        """Of queues that others made with another type than is said here."""
        self.known: dict[str, None] = dict.fromkeys(queues)
        """Every queue that was named here, in that order: AMQP itself lists none."""

    def spec(self, name: str) -> Queue | None:
        """Return what the settings say of a queue; None where they say nothing."""
        return self._specs.get(name)

    def describe(self, queue: Queue) -> None:
        """Declare a queue as it says at its next use, whatever the settings say."""
        with self._lock:
            # A new dict: others go through it without the lock.
            self._specs = {**self._specs, queue.name: queue}
            self._declared.discard(queue.name)

    def bound_to(self, exchange: str) -> list[str]:
        """Return the queues into which an exchange leads, by the settings."""
        return [
            name
            for name, spec in self._specs.items()
            if any(one.name == exchange for one, _, _ in spec.all_bindings())
        ]

    def arguments(self, name: str) -> dict[str, Any]:
        """Return the arguments with which a queue is declared."""
        spec = self._specs.get(name)
        found: dict[str, Any] = {}
        if self._queue_type != "classic":
            found["x-queue-type"] = self._queue_type
        if self._max_priority:
            found["x-max-priority"] = self._max_priority
        if spec is not None:
            found.update(spec.queue_arguments or {})
        if found.get("x-queue-type") == "quorum":
            found.pop("x-max-priority", None)  # refused there
        return found

    def max_priority(self) -> int | None:
        """Return the highest priority that any queue knows."""
        found = [self._max_priority or 0]
        found += [self.arguments(name).get("x-max-priority") or 0 for name in self._specs]
        return max(found) or None

    def holds_for(self, timeout: float | None) -> float | None:
        """Return for how many seconds the server lets a message of any queue be held.

        :param timeout: its `consumer_timeout`, for queues that say nothing themselves.
        """
        found = [] if timeout is None else [timeout]
        for name in self._specs:
            own = self.arguments(name).get("x-consumer-timeout")  # ms
            if isinstance(own, int) and own > 0:
                found.append(own / 1000)
        return min(found, default=None)

    def delivery_limit(self, name: str) -> int | None:
        """Return after how many deliveries the server would drop a message of a queue; None: never.

        One with a dead letter exchange of its own is left to it.
        """
        arguments = self.arguments(name)
        limit = arguments.get("x-delivery-limit")
        kept = arguments.get("x-dead-letter-exchange") is not None
        return limit if isinstance(limit, int) and limit >= 0 and not kept else None

    def has_limit(self, name: str) -> bool:
        """Whether a queue is declared with a length beyond which it refuses."""
        return not {"x-max-length", "x-max-length-bytes"}.isdisjoint(self.arguments(name))

    def is_quorum(self, name: str) -> bool:
        """Whether a queue is a quorum queue, by the settings or as it was found."""
        return self._types.get(name, self.arguments(name).get("x-queue-type")) == "quorum"

    def _fresh(self) -> None:
        if self._epoch != self._server.epoch:
            self._epoch = self._server.epoch
            self._declared.clear()
            self._ladder = False

    def declare(self, names: Iterable[str]) -> None:
        """Make queues and what they are bound to; what is there already is left as it is.

        :raises BrokerRejected: a queue exists and differs from what the settings say of it.
        """
        wanted = [name for name in dict.fromkeys(names) if name not in self._declared]
        if not wanted and self._epoch == self._server.epoch:
            return
        with self._lock:
            self._server.link()
            self._fresh()
            wanted = [name for name in dict.fromkeys(names) if name not in self._declared]
            if wanted:
                self._server.ask(lambda: self.steps(wanted))
                self._declared.update(wanted)
                self.known.update(dict.fromkeys(wanted))

    def forget(self, names: Iterable[str]) -> None:
        """Declare these again at the next use: the server says that they are gone."""
        with self._lock:
            self._declared.difference_update(names)

    def declare_ladder(self, names: Iterable[str]) -> None:
        """Make the queues in which delays pass, and let their ends lead to `names`."""
        wanted = [name for name in dict.fromkeys(names) if f"delay {name}" not in self._declared]
        if self._ladder and not wanted and self._epoch == self._server.epoch:
            return
        with self._lock:
            self.declare(wanted)
            wanted = [n for n in dict.fromkeys(names) if f"delay {n}" not in self._declared]
            if not self._ladder:
                self._server.ask(lambda: delay.ladder(self._ladder_type))
                self._ladder = True
            if wanted:
                self._server.ask(lambda: delay.bindings(wanted))
                self._declared.update(f"delay {name}" for name in wanted)

    def declare_through(self, exchange: str) -> None:
        """Make the ladder, and let its end lead to where an exchange leads.

        :raises BrokerRejected: the settings do not say where that is.
        """
        mark = f"delay through {exchange}"
        if mark in self._declared and self._epoch == self._server.epoch:
            return
        bound = [
            (name, one.type, key)
            for name, spec in self._specs.items()
            for one, key, _ in spec.all_bindings()
            if one.name == exchange
        ]
        if not bound:
            raise BrokerRejected(
                f"a delayed task cannot go through exchange {exchange!r}, which no queue of "
                "task_queues is bound to: name it there, or send the task to a queue"
            )
        with self._lock:
            self.declare_ladder([name for name, _, _ in bound])
            kind = bound[0][1]
            pairs = [(name, key) for name, _, key in bound]
            self._server.ask(lambda: delay.through(exchange, kind, pairs))
            self._declared.add(mark)

    def declare_dead(self, names: Iterable[str]) -> None:
        """Make the queues for what is buried."""
        dead = [dead_queue(name) for name in dict.fromkeys(names)]
        wanted = [name for name in dead if name not in self._declared]
        if wanted:
            with self._lock:
                self._server.link()
                self._fresh()
                self._server.ask(lambda: _plain(wanted))
                self._declared.update(wanted)

    def steps(self, names: Sequence[str]) -> Generator[Step, Any, None]:
        """Yield the steps that declare queues."""
        for name in names:
            spec = self._specs.get(name)
            arguments = self.arguments(name)
            try:
                yield queue_step(name, spec, arguments)
            except Refused as refused:
                if refused.code != DIFFERENT or (spec is not None and spec.queue_arguments):
                    raise _different(name, refused) from refused
                # Nobody here says how it should be: whoever made it knows better.
                yield passive_step(name)
                kind = _TYPE.search(refused.text)
                if kind is not None:
                    self._types[name] = kind[1]
                logger.info("queue %s is used as it is: %s", name, refused.text)
            if spec is not None:
                yield from _bind(spec)


def _plain(names: Sequence[str]) -> Generator[Step, Any, None]:
    for name in names:
        try:
            yield queue_step(name, None, {})
        except Refused as refused:
            if refused.code != DIFFERENT:
                raise
            yield passive_step(name)


def _bind(spec: Queue) -> Generator[Step, Any, None]:
    for exchange, key, arguments in spec.all_bindings():
        if not exchange.name:
            continue  # the default exchange leads to every queue by itself
        try:
            if not exchange.passive and not exchange.name.startswith("amq."):
                yield exchange_step(exchange)
        except Refused as refused:
            if refused.code != DIFFERENT or exchange.type == "direct":
                if refused.code != DIFFERENT:
                    raise
                logger.info("exchange %s is used as it is: %s", exchange.name, refused.text)
            else:
                raise _different(exchange.name, refused) from refused
        yield bind_step(spec.name, exchange.name, key, arguments)


def _different(name: str, refused: Refused) -> BrokerRejected:
    found = _ARGUMENT.search(refused.text)
    if refused.code == DIFFERENT and found is not None:
        argument, ours, theirs = found.groups()
        return BrokerRejected(
            f"{name!r} exists with another {argument}: the settings say {ours}, the server has "
            f"{theirs}. Change the settings, or delete it on the server when it is empty"
        )
    return BrokerRejected(f"{name!r} cannot be declared: {refused}")


def queue_step(name: str, spec: Queue | None, arguments: Mapping[str, Any]) -> Step:
    """Return the step that declares a queue."""

    def step(channel: Any, answer: Callable[[Any], None]) -> None:
        channel.queue_declare(
            name,
            durable=spec.durable if spec is not None else True,
            exclusive=spec.exclusive if spec is not None else False,
            auto_delete=spec.auto_delete if spec is not None else False,
            arguments=dict(arguments) or None,
            callback=answer,
        )

    return step


def passive_step(name: str) -> Step:
    """Return the step that looks whether a queue is there; its answer says how much it holds."""
    return lambda channel, answer: channel.queue_declare(name, passive=True, callback=answer)


def exchange_step(exchange: Any) -> Step:
    """Return the step that declares an exchange."""

    def step(channel: Any, answer: Callable[[Any], None]) -> None:
        channel.exchange_declare(
            exchange.name,
            exchange_type=exchange.type,
            durable=exchange.durable,
            auto_delete=exchange.auto_delete,
            arguments=dict(exchange.arguments or {}) or None,
            callback=answer,
        )

    return step


def bind_step(queue: str, exchange: str, key: str, arguments: Mapping[str, Any] | None) -> Step:
    """Return the step that binds a queue."""
    return lambda channel, answer: channel.queue_bind(
        queue, exchange, routing_key=key, arguments=dict(arguments or {}) or None, callback=answer
    )
