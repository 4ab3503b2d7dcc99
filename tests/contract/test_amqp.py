"""The AMQP driver against the contracts, on a RabbitMQ of its own."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import pytest
from tests.support.rabbitmq import RabbitMQ

from celeriac.drivers.amqp.topology import dead_queue
from celeriac.kernel.message import Envelope
from celeriac.testing.contract.broker import BrokerContract
from celeriac.testing.contract.bus import BusContract
from celeriac.testing.contract.results import ResultsContract

amqp = pytest.importorskip("celeriac.drivers.amqp")


def wipe(family: Any) -> None:
    """Delete every queue that a test has used: the next one begins with none."""

    def steps() -> Generator[Any, Any, None]:
        for name in family.broker().topology.known:
            for queue in (name, dead_queue(name)):
                yield lambda channel, done, q=queue: channel.queue_delete(q, callback=done)

    family.server.ask(steps)


@pytest.fixture
def family(rabbitmq: RabbitMQ) -> Iterator[Any]:
    options = {"max_priority": 10, "publish_timeout": 30}
    family = amqp.AMQPFamily(rabbitmq.url, options)
    yield family
    wipe(family)
    family.close()


class TestBroker(BrokerContract):
    def refused(self) -> Envelope | None:
        return None


class TestBrokerOnQuorum(BrokerContract):
    """On quorum queues, which count deliveries by themselves and know no priorities."""

    @pytest.fixture
    def family(self, rabbitmq: RabbitMQ) -> Iterator[Any]:
        family = amqp.AMQPFamily(rabbitmq.url, {"queue_type": "quorum", "publish_timeout": 30})
        yield family
        wipe(family)
        family.close()

    def refused(self) -> Envelope | None:
        return None


class TestResults(ResultsContract):
    pass


class TestBus(BusContract):
    pass
