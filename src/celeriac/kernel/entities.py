"""Queues, exchanges and bindings, as the settings declare them.

The names and arguments are kombu's; its own objects are accepted wherever these are.  Only AMQP has
more than direct routing: what another broker cannot do is an error when it is declared.

Owns: Exchange, Queue, Broadcast, binding, check_wire.  May import: kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from celeriac.kernel.errors import ImproperlyConfigured

TYPES = ("direct", "topic", "fanout", "headers")
_PLUGINS = "x-"

_SHORTHANDS = {
    # kombu's arguments of Queue -> (argument of the server, factor).
    "expires": ("x-expires", 1000),
    "message_ttl": ("x-message-ttl", 1000),
    "max_length": ("x-max-length", 1),
    "max_length_bytes": ("x-max-length-bytes", 1),
    "max_priority": ("x-max-priority", 1),
}
_ACCEPTED = frozenset({"channel", "on_declared", "alias", "no_ack", "consumer_arguments"})
"""What kombu's Queue takes and a task queue has no use for."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """Where messages are sent to be spread over queues.

    :param name: empty for the default exchange, which leads to each queue by its name.
    :param type: direct, topic, fanout or headers; or a plugin's, which begins with `x-`.
    :raises ImproperlyConfigured: there is no such type.
    """

    name: str = ""
    type: str = "direct"
    durable: bool = True
    auto_delete: bool = False
    arguments: Mapping[str, Any] | None = field(default=None, hash=False)
    passive: bool = False
    delivery_mode: Any = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.type not in TYPES and not self.type.startswith(_PLUGINS):
            raise ImproperlyConfigured(
                f"exchange {self.name!r} cannot have the type {self.type!r}: "
                f"there are {', '.join(TYPES)}"
            )

    def __str__(self) -> str:
        return self.name

    @classmethod
    def of(cls, value: Any) -> Exchange:
        """Return the exchange that a name, ours or kombu's object stands for."""
        if isinstance(value, Exchange):
            return value
        if value is None or isinstance(value, str):
            return cls(value or "")
        if isinstance(value, Mapping):
            return cls(**value)
        return cls(
            str(getattr(value, "name", "") or ""),
            str(getattr(value, "type", "") or "direct"),
            bool(getattr(value, "durable", True)),
            bool(getattr(value, "auto_delete", False)),
            getattr(value, "arguments", None) or None,
            bool(getattr(value, "passive", False)),
        )


@dataclass(frozen=True, slots=True)
class binding:  # noqa: N801 - kombu's name
    """One more way into a queue.

    :param arguments: of a headers exchange: what to match, and `x-match` all or any.
    """

    exchange: Any = ""
    routing_key: str = ""
    arguments: Mapping[str, Any] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "exchange", Exchange.of(self.exchange))

    @classmethod
    def of(cls, value: Any) -> binding:
        """Return the binding that ours or kombu's object stands for."""
        if isinstance(value, binding):
            return value
        return cls(
            getattr(value, "exchange", ""),
            getattr(value, "routing_key", "") or "",
            getattr(value, "arguments", None) or None,
        )


def check_wire(value: Any, where: str) -> str:
    """Return the `wire` of a queue, a route or a call.

    :param where: what to call it in the error.
    :raises ImproperlyConfigured: it is none of the known ones.
    """
    if value in (None, "", "native"):
        return ""
    if value == "celery":
        return "celery"
    raise ImproperlyConfigured(f'{where}: wire is "celery" or "native", not {value!r:.100}')


class Queue:
    """A queue as the settings declare it.

    :param exchange: an `Exchange` or its name; the queue's own name where it is left out.
    :param routing_key: what leads from the exchange to it; its own name where it is left out.
    :param bindings: more ways into it, or all of them where `exchange` is left out.
    :param queue_arguments: what the server is told, e.g. `{"x-max-priority": 10}`.
    :param wire: "celery": what is sent here is sent as Celery's own workers read it.
    :param kwargs: kombu's shorthands: `max_priority`, `message_ttl` and `expires` in seconds,
        `max_length`, `max_length_bytes`.
    :raises ImproperlyConfigured: an argument is unknown.
    """

    __slots__ = (
        "auto_delete",
        "binding_arguments",
        "bindings",
        "durable",
        "exchange",
        "exclusive",
        "name",
        "queue_arguments",
        "routing_key",
        "wire",
    )

    def __init__(
        self,
        name: str = "",
        exchange: Any = None,
        routing_key: str = "",
        *args: Any,
        bindings: Sequence[Any] | None = None,
        durable: bool = True,
        exclusive: bool = False,
        auto_delete: bool = False,
        queue_arguments: Mapping[str, Any] | None = None,
        binding_arguments: Mapping[str, Any] | None = None,
        wire: str = "",
        **kwargs: Any,
    ) -> None:
        self.name = name
        self.wire = check_wire(wire, f"queue {name}")
        # kombu's positions: channel, then bindings.
        more = bindings if bindings is not None else (args[1] if len(args) > 1 else None)
        if isinstance(exchange, binding):
            more, exchange = [exchange], None
        elif exchange is not None and not isinstance(exchange, str | Exchange | Mapping):
            if isinstance(exchange, Sequence):
                more, exchange = exchange, None
        self.bindings = tuple(binding.of(one) for one in more or ())
        made = Exchange.of(exchange)
        if not made.name and not self.bindings:
            made = Exchange(name, made.type, made.durable, made.auto_delete, made.arguments)
        self.exchange = made
        self.routing_key = routing_key or name
        self.durable, self.exclusive, self.auto_delete = durable, exclusive, auto_delete
        arguments = dict(queue_arguments or {})
        for option, value in kwargs.items():
            if option in _SHORTHANDS:
                if value is not None:
                    key, factor = _SHORTHANDS[option]
                    arguments[key] = int(value * factor)
            elif option not in _ACCEPTED:
                raise ImproperlyConfigured(f"Queue {name!r} has no argument {option!r}")
        self.queue_arguments: dict[str, Any] | None = arguments or None
        self.binding_arguments = binding_arguments or None

    def _key(self) -> tuple[Any, ...]:
        return (
            self.name,
            self.exchange,
            self.routing_key,
            self.bindings,
            self.durable,
            self.exclusive,
            self.auto_delete,
            tuple(sorted((self.queue_arguments or {}).items())),
            self.wire,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Queue) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((self.name, self.exchange.name, self.routing_key))

    def __repr__(self) -> str:
        return f"<Queue {self.name} -> {self.exchange.name}({self.exchange.type}) -> {self.routing_key}>"

    @property
    def exchange_type(self) -> str:
        """The type of the exchange that its tasks are sent to."""
        return self.bindings[0].exchange.type if self.by_bindings else self.exchange.type

    @property
    def by_bindings(self) -> bool:
        """Whether its bindings are all the ways into it."""
        return not self.exchange.name and bool(self.bindings)

    @property
    def way(self) -> tuple[str, str]:
        """The exchange's name and the routing key that lead to it."""
        if self.by_bindings:
            return self.bindings[0].exchange.name, self.bindings[0].routing_key
        return self.exchange.name, self.routing_key

    def all_bindings(self) -> list[tuple[Exchange, str, Mapping[str, Any] | None]]:
        """Return each way into it: exchange, routing key and arguments."""
        found: list[tuple[Exchange, str, Mapping[str, Any] | None]] = []
        if not self.by_bindings:
            found.append((self.exchange, self.routing_key, self.binding_arguments))
        found += [(one.exchange, one.routing_key, one.arguments) for one in self.bindings]
        return found

    def needs_amqp(self) -> str:
        """Return what in it only AMQP can do, in words; empty where every broker can."""
        for exchange, key, _ in self.all_bindings():
            if exchange.type != "direct":
                return f"a {exchange.type} exchange ({exchange.name})"
            if exchange.name not in ("", self.name) and self.bindings:
                return f"a binding to {exchange.name} by {key!r}"
        if self.exclusive:
            return "an exclusive queue"
        return ""

    @classmethod
    def of(cls, value: Any, name: str | None = None) -> Queue:
        """Return the queue that a setting's value stands for.

        :param value: a name, a mapping of options, or an object with kombu's attributes.
        :param name: the key it stood under, for a mapping of options.
        :raises ImproperlyConfigured: it is none of these.
        """
        if isinstance(value, Queue):
            return value
        if isinstance(value, str):
            return cls(value)
        if isinstance(value, Mapping):
            options = dict(value)
            own = name or options.get("name")
            options.pop("name", None)
            if own:
                kind = options.pop("exchange_type", None)
                if kind:
                    options["exchange"] = Exchange(str(options.get("exchange") or own), kind)
                # Celery's name for a mapping's binding.
                if "binding_key" in options:
                    options.setdefault("routing_key", options.pop("binding_key"))
                return cls(str(own), **options)
        own = getattr(value, "name", None)
        if isinstance(own, str) and own:
            return cls(
                own,
                getattr(value, "exchange", None),
                getattr(value, "routing_key", "") or "",
                bindings=list(getattr(value, "bindings", None) or ()),
                durable=bool(getattr(value, "durable", True)),
                exclusive=bool(getattr(value, "exclusive", False)),
                auto_delete=bool(getattr(value, "auto_delete", False)),
                queue_arguments=getattr(value, "queue_arguments", None),
                binding_arguments=getattr(value, "binding_arguments", None),
                **{
                    option: getattr(value, option)
                    for option in _SHORTHANDS
                    if getattr(value, option, None) is not None
                },
            )
        raise ImproperlyConfigured(
            f"task_queues has {value!r:.100}: a name, a mapping with a name, or a Queue is needed"
        )


def Broadcast(name: str, queue: str | None = None, **options: Any) -> Queue:  # noqa: N802
    """Return a queue of this worker alone, which gets a copy of each task sent to `name`.

    :param name: of the fanout exchange.
    :param queue: its own name; one that nobody else has where it is left out.
    """
    options.setdefault("auto_delete", True)
    return Queue(queue or f"bcast.{uuid4()}", Exchange(name, "fanout"), name, **options)
