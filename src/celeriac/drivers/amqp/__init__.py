"""The RabbitMQ driver: broker, results by reply and bus over AMQP 0-9-1.

Owns: AMQPFamily.  May import: kernel, ports, drivers.amqp.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celeriac.kernel.errors import CapabilityMissing, ImproperlyConfigured
from celeriac.ports.schedules import ScheduleStore

try:
    import pika
except ImportError as error:
    raise ImproperlyConfigured(
        "the RabbitMQ driver needs the extra `rabbitmq`: pip install 'celeriac[rabbitmq]'"
    ) from error

from celeriac.drivers.amqp.address import parse
from celeriac.drivers.amqp.broker import AMQPBroker, capabilities
from celeriac.drivers.amqp.bus import AMQPBus
from celeriac.drivers.amqp.celery_bus import CeleryEcho, CeleryMailbox
from celeriac.drivers.amqp.orders import AMQPOrders
from celeriac.drivers.amqp.results import RpcResults
from celeriac.drivers.amqp.server import Server
from celeriac.drivers.amqp.topology import Topology

del pika


CONSUMER_TIMEOUT = 1800.0
"""Seconds; RabbitMQ's own default."""


def _consumer_timeout(options: Mapping[str, Any]) -> float | None:
    """Return for how many seconds the server lets a message be held; None for ever."""
    value = options.get("consumer_timeout", CONSUMER_TIMEOUT)
    try:
        return float(value or 0.0) or None
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(
            f"consumer_timeout is a number of seconds, not {value!r}"
        ) from error


class AMQPFamily:
    """Every role of one vhost.

    :param url: see `address.parse`.
    :param options: those of `address.parse`; `queues` (what the settings declare, by name),
        `max_priority`, `queue_type`, `ladder_type`, `rpc` (whether results go by reply) and
        `publish_timeout` (seconds), `consumer_timeout` (seconds, as in rabbitmq.conf; a client
        cannot ask for it; 1800, the server's default; 0: none), `celery_bus` (speak to Celery's monitors, default True).
    :raises ImproperlyConfigured: the URL or an option is wrong.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        if url.startswith("rpc"):
            raise ImproperlyConfigured(
                "rpc:// sends results through the broker: broker_url must be an amqp:// URL"
            )
        self.server = Server(
            parse(url, options), deadline=float(options.get("publish_timeout") or 10.0)
        )
        max_priority = options.get("max_priority")
        topology = Topology(
            self.server,
            options.get("queues") or {},
            max_priority=max_priority,
            queue_type=options.get("queue_type") or "classic",
            ladder_type=options.get("ladder_type") or "quorum",
        )
        caps = capabilities(topology.max_priority(), topology.holds_for(_consumer_timeout(options)))
        self._results = RpcResults(self.server, caps)
        asks = bool(options.get("rpc"))
        self._broker = AMQPBroker(
            self.server, topology, caps, self._results.reply_to if asks else lambda: None
        )
        self._results.returns = self._broker.returns
        echo = CeleryEcho(self.server) if options.get("celery_bus", True) else None
        self._bus = AMQPBus(self.server, echo=echo)
        self._orders = AMQPOrders(self.server)

    def broker(self) -> AMQPBroker:
        """Return the broker."""
        return self._broker

    def results(self) -> RpcResults:
        """Return the store of results that come by reply."""
        return self._results

    def bus(self) -> AMQPBus:
        """Return the bus."""
        return self._bus

    def orders(self) -> AMQPOrders:
        """Return the standing orders."""
        return self._orders

    def schedules(self) -> ScheduleStore:
        """Refuse: a queue is no place for a schedule.

        :raises CapabilityMissing: always; beat keeps its entries in a file then.
        """
        raise CapabilityMissing("RabbitMQ keeps no schedules")

    def celery_mailbox(self) -> CeleryMailbox:
        """Return a new ear for the commands of Celery's own clients."""
        return CeleryMailbox(self.server)

    def after_fork(self) -> None:
        """Forget every connection without closing it."""
        self.server.after_fork()
        self._broker.after_fork()
        self._results.after_fork()
        self._bus.after_fork()
        self._orders.after_fork()

    def close(self) -> None:
        """Close every connection."""
        self._bus.close()
        self._orders.close()
        self._results.close()
        self._broker.close()
