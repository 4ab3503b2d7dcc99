"""Two RabbitMQ nodes, one queue on both: one of them is lost, comes back, and nothing is missing."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from celeriac import Celeriac, Queue
from celeriac.testing.eventually import eventually
from tests.support.rabbitmq import RabbitMQ, need_rabbitmq, start

pytest.importorskip("celeriac.drivers.amqp")

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RabbitMQ]]:
    need_rabbitmq()
    folder: Path = tmp_path_factory.mktemp("two")
    first = start(folder / "a")
    nodes = [first]
    try:
        nodes.append(start(folder / "b", beside=first))
        nodes[1].join(first)
        yield nodes
    finally:
        for node in reversed(nodes):
            node.stop()


def test_a_node_is_lost(cluster: list[RabbitMQ]) -> None:
    name = f"both-{uuid.uuid4().hex[:8]}"
    app = Celeriac(
        "t",
        broker=[node.url for node in cluster],
        backend="disabled",
        task_queues=[Queue(name, queue_arguments={"x-queue-type": "quorum"})],
        task_default_queue=name,
        task_acks_late=True,
        worker_enable_remote_control=False,
        set_as_current=False,
        broker_publish_timeout=60,
        task_publish_retry_policy={
            "max_retries": 200,
            "interval_start": 0.2,
            "interval_step": 0.1,
            "interval_max": 1.0,
        },
    )
    runs: Counter[int] = Counter()
    gate = threading.Event()

    @app.task(name="work")
    def work(n: int) -> None:
        gate.wait(60)
        runs[n] += 1

    for n in range(20):
        work.delay(n)
    worker = app.Worker(pool="threads", concurrency=2)
    thread = threading.Thread(target=worker.start, daemon=True)
    thread.start()
    try:
        assert worker.ready.wait(60)
        # The node through which everything goes; two of its queue's members are no majority of one.
        cluster[0].kill()
        gate.set()
        late = threading.Thread(target=lambda: work.delay(20))
        late.start()
        cluster[0].start()
        late.join(90)
        assert not late.is_alive()
        work.delay(21)
        eventually(lambda: set(runs) == set(range(22)), within=90)
        eventually(lambda: not worker.held.all(), within=60)
        eventually(lambda: app.broker.count([name])[name].ready == 0, within=30)
    finally:
        gate.set()
        worker.stop("cold")
        thread.join(30)
        app.close()
