"""RabbitMQ in bad conditions: nothing is lost, workers come back by themselves, errors say what to change."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.kernel.entities import Queue
from celeriac.kernel.errors import (
    BrokerRejected,
    BrokerUnavailable,
)
from celeriac.kernel.message import Envelope, Settlement, Verdict
from celeriac.testing.eventually import eventually
from tests.support.cable import Proxy
from tests.support.ports import free_port
from tests.support.rabbitmq import RabbitMQ

amqp = pytest.importorskip("celeriac.drivers.amqp")

pytestmark = [pytest.mark.fault, pytest.mark.timeout(180)]

Make = Callable[..., Any]


@pytest.fixture
def queue() -> str:
    return f"q-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def make(rabbitmq: RabbitMQ) -> Iterator[Make]:
    """Make families; they are closed at the end."""
    made = []

    def make(url: str | None = None, **options: Any) -> Any:
        made.append(amqp.AMQPFamily(url or rabbitmq.url, {"publish_timeout": 5, **options}))
        return made[-1]

    yield make
    for one in made:
        one.close()


class Running:
    """An app with a worker in threads, and what its tasks did."""

    def __init__(self, url: str, queue: str) -> None:
        self.app = Celeriac(
            "t",
            broker=url,
            backend="rpc://",
            task_default_queue=queue,
            worker_enable_remote_control=False,
            set_as_current=False,
            task_publish_retry_policy={
                "max_retries": 60,
                "interval_start": 0.1,
                "interval_step": 0.1,
                "interval_max": 0.5,
            },
            broker_publish_timeout=30,
        )
        self.runs: Counter[int] = Counter()
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()

        @self.app.task(name="work", acks_late=True)
        def work(n: int) -> int:
            self.runs[n] += 1
            self.begun.set()
            self.gate.wait(60)
            return n

        self.work = work
        self.worker = self.app.Worker(pool="threads", concurrency=4)
        self.thread = threading.Thread(target=self.worker.start, daemon=True)
        self.thread.start()
        assert self.worker.ready.wait(30)

    def close(self) -> None:
        self.gate.set()
        self.worker.stop("cold")
        self.thread.join(30)


@pytest.fixture
def running(rabbitmq: RabbitMQ, queue: str) -> Iterator[Running]:
    found = Running(rabbitmq.url, queue)
    yield found
    found.close()


def test_killed_and_started_again(rabbitmq: RabbitMQ, running: Running) -> None:
    """One fault for everyone: a batch on its way, a single send, tasks that run and end meanwhile."""
    running.gate.clear()
    for n in range(4):
        running.work.delay(n)
    eventually(lambda: len(running.runs) == 4, within=20)
    late = threading.Thread(target=lambda: running.work.delay(9_000))
    again = threading.Thread(target=rabbitmq.start)
    with running.app.batch():
        for n in range(4, 4_000):
            if n == 2_500:  # what was sent ahead and not confirmed is sent again
                rabbitmq.kill()
                late.start()
                running.gate.set()
                eventually(lambda: running.worker.held.total >= 4)
                again.start()
            running.work.delay(n)
    again.join(60)
    late.join(60)
    running.work.delay(9_001)
    wanted = {*range(4_000), 9_000, 9_001}
    eventually(lambda: wanted <= set(running.runs), within=60)
    # Done is done, though nobody could be told: it is not run a second time.
    assert [running.runs[n] for n in range(4)] == [1, 1, 1, 1]
    eventually(lambda: not running.worker.held.all(), within=30)
    assert running.worker.pool.size() == 4
    assert running.thread.is_alive()


def test_a_running_task_outlives_its_connection(rabbitmq: RabbitMQ, running: Running) -> None:
    running.gate.clear()
    results = [running.work.delay(n) for n in range(4)]
    eventually(lambda: len(running.runs) == 4, within=20)
    rabbitmq.ctl("close_all_connections", "test")
    consumer = running.worker._consumer
    eventually(lambda: consumer._epoch >= 2 and consumer._link.is_up, within=30)
    # They are handed to us again, and kept.
    eventually(lambda: all(consumer._is_current(d) for d in running.worker.held.all()), within=20)
    running.gate.set()
    assert [one.get(timeout=30) for one in results] == [0, 1, 2, 3]
    assert running.work.delay(9).get(timeout=30) == 9
    assert set(running.runs.values()) == {1}
    name = running.app.conf.task_default_queue
    eventually(lambda: running.app.broker.count([name])[name].ready == 0)


def test_blocked(rabbitmq: RabbitMQ, make: Make, queue: str) -> None:
    broker = make(publish_timeout=1.5).broker()
    broker.publish([Envelope("before", queue, b"x")])
    consumer = broker.consume([queue], owner="w", lease=60)
    (held,) = consumer.claim(1, wait=5)
    rabbitmq.alarm(True)
    try:
        with pytest.raises(BrokerUnavailable, match=r"memory|confirm"):
            # The server says so when something is published.
            for n in range(3):
                broker.publish([Envelope(f"blocked{n}", queue, b"x")])
        with pytest.raises(BrokerUnavailable, match="out of memory or disk"):
            broker.publish([Envelope("blocked", queue, b"x")])
        # Acknowledgements flow all the same.
        assert list(consumer.settle([Settlement(held, Verdict.ACK)])) == []
    finally:
        rabbitmq.alarm(False)

    def again() -> bool:
        try:
            broker.publish([Envelope("after", queue, b"x")])
        except BrokerUnavailable:
            return False
        return True

    eventually(again, within=20)
    seen: set[str] = set()

    def all_seen() -> bool:
        seen.update(one.envelope.id for one in consumer.claim(9, wait=0.2))
        return "after" in seen

    eventually(all_seen, within=20)
    consumer.close()


def test_a_pulled_cable_is_noticed(rabbitmq: RabbitMQ, make: Make, queue: str) -> None:
    proxy = Proxy(rabbitmq.port)
    try:
        make().broker().publish([Envelope("one", queue, b"x")])
        url = f"amqp://guest:guest@127.0.0.1:{proxy.port}//?heartbeat=1"
        broker = make(url).broker()
        consumer = broker.consume([queue], owner="w", lease=60)
        (held,) = consumer.claim(1, wait=5)
        epoch = consumer._epoch
        proxy.pull()
        eventually(lambda: consumer._epoch > epoch and consumer._link.is_up, within=30)
        # The server noticed as well, and gave it to us again: it is not handed out twice.
        eventually(
            lambda: consumer._is_current(held), within=30, each=lambda: consumer.claim(1, wait=0.1)
        )
        assert list(consumer.settle([Settlement(held, Verdict.ACK)])) == []
        make().broker().publish([Envelope("two", queue, b"x")])
        assert [one.envelope.id for one in consumer.claim(1, wait=10)] == ["two"]
    finally:
        proxy.close()


def test_a_deleted_queue_is_made_again(make: Make, queue: str) -> None:
    broker = make().broker()
    consumer = broker.consume([queue], owner="w", lease=60)
    assert list(consumer.claim(1, wait=0)) == []
    epoch = consumer._epoch

    def delete(channel: Any) -> None:
        channel.queue_delete(queue)

    somebody = make()
    somebody.broker().open()
    somebody.server.link().call(lambda connection: connection.channel(on_open_callback=delete))
    eventually(lambda: consumer._epoch > epoch and consumer._link.is_up, within=20)
    broker.publish([Envelope("t", queue, b"x")])
    assert [one.envelope.id for one in consumer.claim(1, wait=10)] == ["t"]


def test_another_argument_is_named(make: Make, queue: str) -> None:
    make().broker().declare([queue])
    wanted = Queue(queue, queue_arguments={"x-max-priority": 10})
    broker = make(queues={queue: wanted}).broker()
    with pytest.raises(BrokerRejected, match=r"another x-max-priority: the settings say .*10"):
        broker.declare([queue])
    with pytest.raises(BrokerRejected, match="x-max-priority"):
        broker.consume([queue], owner="w", lease=60)
    # Where nobody here says how it should be, it is used as it is.
    make(max_priority=5).broker().publish([Envelope("t", queue, b"x")])


@pytest.mark.parametrize(
    ("login", "path", "says"),
    [
        ("guest:s3cret-wrong", "/", "user or the password is wrong"),
        ("nobody:s3cret-wrong", "/", "user or the password is wrong"),
        ("guest:guest", "nowhere", "vhost 'nowhere'"),
    ],
)
def test_a_wrong_login(rabbitmq: RabbitMQ, make: Make, login: str, path: str, says: str) -> None:
    url = f"amqp://{login}@127.0.0.1:{rabbitmq.port}/{path}"
    began = time.monotonic()
    with pytest.raises(BrokerRejected, match=says) as caught:
        make(url).broker().open()
    assert time.monotonic() - began < 10
    assert "s3cret" not in str(caught.value)


def test_permissions_of_the_guide(rabbitmq: RabbitMQ, make: Make, queue: str) -> None:
    """The commands of docs/rabbitmq.md."""
    shop = f"shop-{queue}"
    rabbitmq.ctl("add_user", shop, "pass word/1")
    rabbitmq.ctl("add_vhost", shop)
    url = f"amqp://{shop}:pass%20word%2F1@127.0.0.1:{rabbitmq.port}/{shop}"
    with pytest.raises(BrokerRejected, match=f"no access to the vhost '{shop}'"):
        make(url).broker().open()
    rabbitmq.ctl("set_permissions", "-p", shop, shop, ".*", ".*", ".*")
    broker = make(url).broker()
    broker.publish([Envelope("t", queue, b"x")])
    assert broker.count([queue])[queue].ready == 1


def test_nobody_listens(make: Make) -> None:
    port = free_port()
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=f"127.0.0.1:{port}.*cannot be reached.*refused"):
        make(f"amqp://127.0.0.1:{port}//").broker().open()
    assert time.monotonic() - began < 5


def test_the_next_of_a_list(rabbitmq: RabbitMQ, make: Make, queue: str) -> None:
    url = f"amqp://guest:guest@127.0.0.1:{free_port()}//;amqp://127.0.0.1:{rabbitmq.port}"
    broker = make(url).broker()
    broker.publish([Envelope("t", queue, b"x")])
    consumer = broker.consume([queue], owner="w", lease=60)
    assert [one.envelope.id for one in consumer.claim(1, wait=10)] == ["t"]


def test_a_full_queue_refuses(make: Make, queue: str) -> None:
    limits = {"x-max-length": 2, "x-overflow": "reject-publish"}
    broker = make(queues={queue: Queue(queue, queue_arguments=limits)}).broker()
    broker.publish([Envelope(str(n), queue, b"x") for n in range(2)])
    with pytest.raises(BrokerRejected, match="full"):
        broker.publish([Envelope("more", queue, b"x")])
    assert broker.count([queue])[queue].ready == 2
