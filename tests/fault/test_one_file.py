"""Many processes on one file, and a file that is in trouble: a clear error or all of a task."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from celeriac import Celeriac
from celeriac.kernel.errors import BrokerFull, BrokerRejected, ImproperlyConfigured
from celeriac.kernel.message import Settlement, Verdict
from celeriac.kernel.states import SUCCESS
from tests.support.project import Project, eventually

pytestmark = pytest.mark.fault

TASKS = """
    app.conf.worker_log_tasks = False

    @app.task
    def add(x, y):
        return x + y
    """

PRODUCER = """
import sys
from proj import add
print("\\n".join(add.delay(int(sys.argv[1]), number).id for number in range(200)))
"""


def test_eight_producers_and_four_workers(project: Callable[[str], Project]) -> None:
    made = project(TASKS)
    workers = [
        made.worker("-P", "threads", "-c", "2", "-n", f"w{number}@%h", ready=False)
        for number in range(4)
    ]
    producers = [
        subprocess.Popen(
            [sys.executable, "-c", PRODUCER, str(number)],
            cwd=made.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    ids: list[str] = []
    for producer in producers:
        out, errors = producer.communicate(timeout=100)
        assert producer.returncode == 0, errors
        assert not errors
        ids += out.split()
    assert len(set(ids)) == 1600
    eventually(lambda: made.left() == 0, within=90, saying="an empty queue")
    records = {}
    for start in range(0, 1600, 400):
        records.update(made.app.results.fetch(ids[start : start + 400]))
    assert [record.state for record in records.values()] == [SUCCESS] * 1600
    for worker in workers:
        assert worker.stop() == 0
        assert "locked" not in worker.output()
        assert "ERROR" not in worker.output()
    check = apsw.Connection(str(made.folder / "queue.db"))
    assert check.pragma("integrity_check") == "ok"
    check.close()


def test_delayed_tasks_are_on_time_and_cost_a_worker_nothing(
    project: Callable[[str], Project],
) -> None:
    made = project(
        """
        app.conf.worker_log_tasks = False

        @app.task(ignore_result=True)
        def late(due):
            with open(HERE / "late", "a") as file:
                file.write(f"{time.time() - due}\\n")
        """
    )
    worker = made.worker("-c", "2")

    def memory() -> int:
        return int(Path(f"/proc/{worker.pid}/statm").read_text().split()[1]) * 4096

    before = memory()
    with made.app.batch():
        for _ in range(100_000):
            made.send("late", 0.0, countdown=86_400)

    with made.app.batch():
        for number in range(200):
            due = time.time() + 2 + number / 100
            made.send("late", due, countdown=due - time.time())
    path = made.folder / "late"
    eventually(lambda: path.exists() and path.read_text().count("\n") == 200, saying="200 runs")
    late = sorted(float(line) for line in path.read_text().split())
    assert late[0] >= -0.001, "a task began before its time"
    assert late[int(len(late) * 0.95)] < 0.25, late[-20:]
    assert memory() - before < 20 << 20


def test_a_full_disk_refuses_more_and_lets_tasks_end(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'full.db'}"
    app = Celeriac("full", broker=url, set_as_current=False)
    first = app.send_task("some.task")
    app.close()
    full = Celeriac(
        "full", broker=url, set_as_current=False, broker_transport_options={"reserve": 1 << 60}
    )
    with pytest.raises(BrokerFull, match="make room"):
        full.send_task("some.task")
    consumer = full.broker.consume(["celery"], owner="w", lease=30)
    (delivery,) = consumer.claim(5, wait=1)
    assert delivery.envelope.id == first.id

    assert not consumer.settle([Settlement(delivery, Verdict.ACK)])
    consumer.close()
    assert full.broker.count(["celery"])["celery"].held == 0
    full.close()


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"this is no database at all, but a text of some length" * 100, "damaged or no SQLite")],
)
def test_a_file_that_is_no_database(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "broken.db"
    file.write_bytes(content)
    file.chmod(0o600)
    app = Celeriac("broken", broker=f"sqlite:///{file}", set_as_current=False)
    with pytest.raises(BrokerRejected, match=words):
        app.send_task("some.task")
    assert file.read_bytes() == content
    app.close()


def test_a_foreign_database_a_link_and_a_folder_that_is_not_there(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.db"
    db = apsw.Connection(str(foreign))
    db.execute("CREATE TABLE theirs(x)")
    db.close()
    foreign.chmod(0o600)
    link = tmp_path / "link.db"
    link.symlink_to(foreign)
    for file, error, words in (
        (foreign, BrokerRejected, "another program"),
        (link, ImproperlyConfigured, "symbolic link"),
        (tmp_path / "no" / "such.db", BrokerRejected, "no folder"),
    ):
        app = Celeriac("wrong", broker=f"sqlite:///{file}", set_as_current=False)
        with pytest.raises(error, match=words):
            app.send_task("some.task")
        app.close()


def test_files_are_the_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "own.db"
    app = Celeriac("own", broker=f"sqlite:///{file}", set_as_current=False)
    app.send_task("some.task")
    assert file.stat().st_mode & 0o777 == 0o600
    assert Path(f"{file}.d").stat().st_mode & 0o777 == 0o700
    app.close()
