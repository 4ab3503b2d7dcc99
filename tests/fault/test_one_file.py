"""Many processes on one file, and a file that is in trouble: a clear error or all of a task."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from celeriac import Celeriac
from celeriac.drivers.sqlite.broker import SQLiteBroker
from celeriac.kernel.errors import (
    BrokerFull,
    BrokerRejected,
    BrokerUnavailable,
    ImproperlyConfigured,
)
from celeriac.kernel.message import Record, Settlement, Verdict
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


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "fuse.sshfs"])
def test_a_network_file_system_is_refused_unless_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = tmp_path / "with space"
    folder.mkdir()
    listed = tmp_path / "mounts"
    point = str(folder).replace(" ", "\\040")
    listed.write_text(f"/dev/x / ext4 rw 0 0\nserver:/x {point} {kind} rw 0 0\n")
    monkeypatch.setattr("celeriac.drivers.sqlite.mounts.MOUNTS", listed)
    url = f"sqlite:///{folder / 'queue.db'}"
    with Celeriac("far", broker=url, set_as_current=False) as app:
        with pytest.raises(ImproperlyConfigured, match=f"on {kind} .*local disk") as refused:
            app.send_task("some.task")
        assert str(folder) in str(refused.value) and "network_file_system" in str(refused.value)
        assert list(folder.iterdir()) == []
    options = {"network_file_system": True}
    with Celeriac("far", broker=url, set_as_current=False, broker_transport_options=options) as app:
        app.send_task("some.task")
        assert app.broker.count(["celery"])["celery"].ready == 1
    # What is mounted over it is what counts; and a sandbox's own root is nobody else's.
    for lines in (
        f"server:/x {point} {kind} rw 0 0\n/dev/y {point} ext4 rw 0 0\n",
        "none / 9p rw\n",
    ):
        listed.write_text(lines)
        with Celeriac("near", broker=url, set_as_current=False) as app:
            app.send_task("some.task")


def test_a_disk_that_is_full_in_truth(tmp_path: Path) -> None:
    """SQLite itself says so: what was accepted is there, the rest raised, and room mends it all."""
    url = f"sqlite:///{tmp_path / 'full.db'}"
    app = Celeriac("full", broker=url, set_as_current=False)
    assert isinstance(app.broker, SQLiteBroker)
    app.send_task("some.task", task_id="first")
    writer = app.broker._db._writer
    assert writer is not None
    before = writer.pragma("max_page_count")
    writer.pragma("max_page_count", writer.pragma("page_count") + 20)
    accepted = ["first"]
    with pytest.raises(BrokerFull, match=r"full\.db is full: nothing was written; make room"):
        for number in range(1_000):
            app.send_task("some.task", ("x" * 2_000,), task_id=f"t{number}")
            accepted.append(f"t{number}")
    with pytest.raises(BrokerFull), app.batch():
        for number in range(100):
            app.send_task("some.task", ("x" * 2_000,), task_id=f"batch{number}")
    waiting = [one.id for one in app.broker.peek("celery", limit=1_000)]
    assert waiting == accepted
    # A result that does not fit is tried again until there is room.
    consumer = app.broker.consume(["celery"], owner="w", lease=30)
    delivery = consumer.claim(1, wait=1)[0]
    record = Record("first", "SUCCESS", b"y" * 200_000)
    ended = Settlement(delivery, Verdict.ACK, record=record)
    with pytest.raises(BrokerUnavailable, match="make room"):
        consumer.settle([ended])
    assert app.results.fetch(["first"]) == {}
    writer.pragma("max_page_count", before)
    assert list(consumer.settle([ended])) == []
    assert app.results.fetch(["first"])["first"].body == record.body
    app.send_task("some.task", task_id="last")
    waiting = [one.id for one in app.broker.peek("celery", limit=1_000)]
    assert waiting == [*accepted[1:], "last"]
    consumer.close()
    app.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB; skip where this user may not mount one."""
    point = tmp_path / "small"
    point.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(point)], capture_output=True
    )
    if made.returncode:
        pytest.skip("it takes the right to mount")
    yield point
    subprocess.run(["umount", str(point)], check=True)


def test_a_small_disk_that_others_have_filled(small_disk: Path) -> None:
    """The file system itself has no block left: for senders, for the log, and for a new file."""
    options = {"reserve": 0}
    app = Celeriac(
        "small",
        broker=f"sqlite:///{small_disk / 'full.db'}",
        set_as_current=False,
        broker_transport_options=options,
    )
    app.send_task("some.task", task_id="first")
    consumer = app.broker.consume(["celery"], owner="w", lease=30)
    (delivery,) = consumer.claim(1, wait=1)
    other = small_disk / "of somebody else"
    with contextlib.suppress(OSError), other.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    accepted = []
    with pytest.raises(BrokerFull, match="make room"):
        for number in range(2_000):
            app.send_task("some.task", ("x" * 2_000,), task_id=f"t{number}")
            accepted.append(f"t{number}")
    record = Record("first", "SUCCESS", b"y" * 500_000)
    ended = Settlement(delivery, Verdict.ACK, record=record)
    with pytest.raises(BrokerUnavailable, match="make room"):
        consumer.settle([ended])
    late = Celeriac("late", broker=f"sqlite:///{small_disk / 'new.db'}", set_as_current=False)
    with pytest.raises((BrokerFull, BrokerRejected), match=r"room|space"):
        late.send_task("some.task")
    late.close()
    other.unlink()
    assert list(consumer.settle([ended])) == []
    assert [one.id for one in app.broker.peek("celery", limit=3_000)] == accepted
    app.send_task("some.task", task_id="last")
    consumer.close()
    app.close()
    again = Celeriac("again", broker=f"sqlite:///{small_disk / 'full.db'}", set_as_current=False)
    assert again.results.fetch(["first"])["first"].body == record.body
    assert again.broker.count(["celery"])["celery"].ready == len(accepted) + 1
    again.close()
