"""A task that takes its workers down is buried on RabbitMQ too, on every type of queue, and nothing else is."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from celeriac import Queue
from tests.support.project import Project, eventually
from tests.support.rabbitmq import RabbitMQ

pytest.importorskip("celeriac.drivers.amqp")

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]

SOURCE = """
    app.conf.task_queues = [Queue({name!r}, queue_arguments={arguments!r})]

    @app.task
    def note(number):
        with open(HERE / "notes", "a") as out:
            out.write(f"{{number}}\\n")

    @app.task
    def poison():
        with open(HERE / "deaths", "a") as out:
            out.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    """
ARGUMENTS = {
    "classic": {},
    "quorum": {"x-queue-type": "quorum"},
    # The server would drop it one death before we bury it.
    "limited": {"x-queue-type": "quorum", "x-delivery-limit": 1},
}


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_workers_die_of_it(rabbitmq: RabbitMQ, tmp_path: Path, kind: str) -> None:
    name = f"poison-{uuid.uuid4().hex[:8]}"
    source = "    from celeriac import Queue\n" + SOURCE.format(
        name=name, arguments=ARGUMENTS[kind]
    )
    project = Project(
        tmp_path,
        source,
        url=rabbitmq.url,
        task_default_queue=name,
        task_max_deliveries=2,
        worker_enable_remote_control=False,
    )
    project.app.conf.task_queues = [Queue(name, queue_arguments=ARGUMENTS[kind])]
    try:
        poison = project.send("poison")
        for number in range(20):
            project.send("note", number)
        broker = project.app.broker
        for _ in range(2):
            worker = project.worker("-P", "solo", ready=False)
            worker.popen.wait(30)
            assert worker.popen.returncode == -9, worker.output()
        worker = project.worker("-P", "solo")
        eventually(lambda: broker.buried(limit=9), saying="a grave")
        (buried,) = broker.buried(limit=9)
        assert buried.envelope.id == poison.id
        assert (tmp_path / "deaths").read_text() == "xx"
        notes = tmp_path / "notes"
        eventually(lambda: notes.exists() and len(notes.read_text().split()) >= 20)
        assert {int(line) for line in notes.read_text().split()} == set(range(20))
        assert list(broker.requeue([poison.id])) == [poison.id]
        assert not broker.buried(limit=9)
        assert worker.popen.wait(30) == -9
    finally:
        project.close()
