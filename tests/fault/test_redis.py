"""Redis killed, frozen, cut, filled and failed over: every accepted task ends, none is left."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("redis")

from celeriac import Celeriac
from celeriac.kernel.errors import (
    BrokerFull,
    BrokerRejected,
    BrokerUnavailable,
    OperationalError,
)
from celeriac.kernel.states import SUCCESS
from tests.support.project import Project, eventually
from tests.support.proxy import CutProxy
from tests.support.redis import RedisServer, SentinelPair

pytestmark = [pytest.mark.service, pytest.mark.fault]

NOTES = """
    @app.task
    def note(number):
        with open(HERE / "lines", "a") as file:
            file.write(f"{number}\\n")
        time.sleep(0.005)
        return number

    @app.task
    def wait_for(name):
        (HERE / "begun").touch()
        while not (HERE / name).exists():
            time.sleep(0.01)
        return "done"
    """

QUICK = {"socket_timeout": 1.0, "socket_connect_timeout": 1.0}
"""So that a silent server is noticed in a second, in the tests as in the worker."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis", fsync="always") as server:
        yield server


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Project]]:
    made: list[Project] = []

    def make(url: str, options: dict[str, Any] = QUICK, **settings: Any) -> Project:
        folder = tmp_path / f"project{len(made)}"
        folder.mkdir()
        settings = {
            "worker_log_tasks": False,
            "result_backend": url,
            "broker_transport_options": options,
            "result_backend_transport_options": options,
            **settings,
        }
        made.append(Project(folder, NOTES, url=url, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


class Producer:
    """Sends tasks through trouble and remembers which were accepted.

    One that raises BrokerUnavailable may have arrived all the same; it is sent again with its id.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self.accepted: list[str] = []
        self.refused = 0
        self.slowest = 0.0
        """Seconds that one call took."""

    def send(self, count: int, pause: float = 0.0) -> None:
        """Send some more."""
        for _ in range(count):
            number = len(self.accepted)
            task_id = f"note-{number}"
            ends = time.monotonic() + 60
            while True:
                began = time.monotonic()
                try:
                    self._project.send("note", number, task_id=task_id)
                    break
                except BrokerUnavailable:
                    self.refused += 1
                    assert time.monotonic() < ends, "the broker did not come back"
                finally:
                    self.slowest = max(self.slowest, time.monotonic() - began)
            self.accepted.append(task_id)
            time.sleep(pause)

    def check(self, worker: Any, within: float = 40.0) -> None:
        """Wait for the end: every result is there, nothing is queued, and the worker goes on."""
        project = self._project

        def left() -> int:
            try:
                return project.left()
            except OperationalError:
                return -1

        eventually(lambda: left() == 0, within=within, saying="an empty queue")
        records = {}
        for start in range(0, len(self.accepted), 500):
            records.update(project.app.results.fetch(self.accepted[start : start + 500]))
        missing = [task_id for task_id in self.accepted if task_id not in records]
        assert not missing, f"{len(missing)} tasks have no result: {missing[:5]}"
        assert {record.state for record in records.values()} <= {SUCCESS}
        assert not project.app.broker.buried(limit=1)
        if worker is not None:
            assert worker.popen.poll() is None, worker.output()
            last = project.send("note", -1)
            assert last.get(timeout=20) == -1, "the worker consumes no more"


def _ran(project: Project) -> set[int]:
    path = project.folder / "lines"
    return {int(line) for line in path.read_text().split()} if path.exists() else set()


def _storm(
    project: Project, strike: Callable[[], None], *, strikes: int, tasks: int = 20
) -> Producer:
    """Send tasks, and strike between them."""
    producer = Producer(project)
    producer.send(tasks)
    for _ in range(strikes):
        strike()
        producer.send(tasks)
    return producer


def test_killed_and_restarted(server: RedisServer, make: Callable[..., Project]) -> None:
    project = make(server.url())
    worker = project.worker("-P", "threads", "-c", "2")

    def strike() -> None:
        time.sleep(random.uniform(0, 0.2))
        server.restart()

    producer = _storm(project, strike, strikes=5, tasks=60)
    producer.check(worker)
    assert _ran(project) >= set(range(len(producer.accepted)))


def test_killed_while_nobody_sends(server: RedisServer, make: Callable[..., Project]) -> None:
    project = make(server.url())
    worker = project.worker("-P", "threads", "-c", "2")
    server.kill()
    with pytest.raises(BrokerUnavailable):
        project.app.send_task("proj.note", (1,), retry=False)
    server.start()
    Producer(project).check(worker)


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_worker_starts_before_its_broker(
    server: RedisServer, make: Callable[..., Project], pool: str
) -> None:
    project = make(server.url())
    server.kill()
    worker = project.worker("-P", pool, "-c", "2", ready=False)
    eventually(lambda: worker.output().count("trying again") > 2, saying="a third try")
    server.start()
    worker.wait_ready()
    producer = Producer(project)
    producer.send(20)
    producer.check(worker)


@pytest.mark.parametrize(("retry", "status"), [(True, 0), (False, 69)])
def test_a_worker_without_broker_ends(
    server: RedisServer, make: Callable[..., Project], retry: bool, status: int
) -> None:
    project = make(server.url(), broker_connection_retry_on_startup=retry)
    server.kill()
    worker = project.worker("-c", "2", ready=False)
    if retry:
        eventually(lambda: "trying again" in worker.output(), saying="a try")
        worker.popen.terminate()
    assert worker.popen.wait(20) == status, worker.output()
    assert "cannot reach redis://127.0.0.1" in worker.output()


@pytest.mark.parametrize("seconds", [3.0, pytest.param(30.0, marks=pytest.mark.long)])
def test_frozen(server: RedisServer, make: Callable[..., Project], seconds: float) -> None:
    project = make(server.url())
    worker = project.worker("-P", "threads", "-c", "2")
    producer = Producer(project)
    producer.send(200)
    server.pause()
    try:
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            project.app.send_task("proj.note", (1,), retry=False)
        assert time.monotonic() - began < 4
        time.sleep(max(0.0, seconds - (time.monotonic() - began)))
    finally:
        server.resume()
    producer.send(50)
    producer.check(worker)


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(n, marks=pytest.mark.long) for n in range(2, 12))]
)
def test_cut_in_the_middle_of_any_command(
    server: RedisServer, make: Callable[..., Project], seed: int
) -> None:
    with CutProxy(server.port, cut_after=(1500, 20_000), seed=seed) as proxy:
        project = make(server.url(port=proxy.port))
        worker = project.worker("-P", "threads", "-c", "2")
        producer = Producer(project)
        producer.send(300)
        eventually(lambda: proxy.cuts > 10, saying="cuts")
        proxy.cut_after = None
        proxy.cut_all()
        producer.check(worker)


def test_client_kill_storm(server: RedisServer, make: Callable[..., Project]) -> None:
    project = make(server.url())
    worker = project.worker("-P", "threads", "-c", "2")

    def strike() -> None:
        server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        server.cli("CLIENT", "KILL", "TYPE", "pubsub")

    _storm(project, strike, strikes=40, tasks=10).check(worker)


def test_scripts_flushed(server: RedisServer, make: Callable[..., Project]) -> None:
    project = make(server.url())
    worker = project.worker("-P", "threads", "-c", "2")
    producer = _storm(project, lambda: server.cli("SCRIPT", "FLUSH"), strikes=20, tasks=10)
    assert producer.refused == 0
    producer.check(worker)


def test_failover(tmp_path: Path, make: Callable[..., Project]) -> None:
    pair = SentinelPair(tmp_path / "pair")
    try:
        project = make(pair.url, {**QUICK, **pair.options, "replicas": 1})
        worker = project.worker("-P", "threads", "-c", "2")
        producer = Producer(project)
        producer.send(100)
        # Without a replica nothing can be confirmed by one: the option was for the time before.
        other = make(pair.url, {**QUICK, **pair.options})
        pair.master.kill()
        pair.wait_failover()
        after = Producer(other)
        after.accepted = list(producer.accepted)
        after.send(100)
        after.check(worker)
    finally:
        pair.stop()


def test_full(server: RedisServer, make: Callable[..., Project]) -> None:
    project = make(server.url())
    worker = project.worker("-P", "threads", "-c", "1")
    running = project.send("wait_for", "go")
    eventually(lambda: (project.folder / "begun").exists(), saying="a running task")
    server.cli("CONFIG", "SET", "maxmemory", server.info("memory")["used_memory"])
    with pytest.raises(BrokerFull, match="maxmemory"):
        for _ in range(100):
            project.app.send_task("proj.note", (1,), queue="elsewhere", retry=False)
    (project.folder / "go").touch()
    assert running.get(timeout=20) == "done"
    server.cli("CONFIG", "SET", "maxmemory", 0)
    project.app.broker.purge("elsewhere")
    Producer(project).check(worker)


def test_a_replica_takes_no_tasks(tmp_path: Path, server: RedisServer) -> None:
    replica = f"127.0.0.1 {server.port}"
    with RedisServer(tmp_path / "replica", replicaof=replica) as reading:
        eventually(lambda: reading.info("replication")["master_link_status"] == "up")
        app = Celeriac("r", broker=reading.url(), set_as_current=False)
        try:
            with pytest.raises(BrokerUnavailable, match="read only"):
                app.send_task("some.task", retry=False)
        finally:
            app.close()


def test_a_wrong_password_is_not_told(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "locked", password="right-horse") as server:
        app = Celeriac("p", broker=server.url(password="wr0ng-staple"), set_as_current=False)
        try:
            with pytest.raises(BrokerRejected, match="password") as caught:
                app.send_task("some.task")
        finally:
            app.close()
        seen: BaseException | None = caught.value
        while seen is not None:
            assert "wr0ng-staple" not in f"{seen!s} {seen!r}"
            seen = seen.__cause__
        assert "127.0.0.1" in str(caught.value)


def test_a_black_hole(server: RedisServer, make: Callable[..., Project]) -> None:
    with CutProxy(server.port) as proxy:
        project = make(server.url(port=proxy.port))
        worker = project.worker("-P", "threads", "-c", "2")
        producer = Producer(project)
        producer.send(50)
        proxy.blackhole()
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            project.app.send_task("proj.note", (1,), retry=False)
        assert time.monotonic() - began < 4
        proxy.blackhole(False)
        # Bytes are missing in what was open: as after a router that was started anew.
        proxy.cut_all()
        producer.send(50)
        producer.check(worker)


@pytest.mark.parametrize(
    "kills", [4, pytest.param(40, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
def test_worker_killed_at_random(
    server: RedisServer, make: Callable[..., Project], kills: int
) -> None:
    project = make(server.url(), worker_lease=1.0, task_max_deliveries=100)
    producer = Producer(project)
    producer.send(200 * kills)
    worker = project.worker("-P", "threads", "-c", "2", ready=False)
    for _ in range(kills):
        before = len(_ran(project))
        eventually(lambda before=before: len(_ran(project)) > before, saying="progress")
        time.sleep(random.uniform(0, 0.3))
        worker.kill_group()
        worker = project.worker("-P", "threads", "-c", "2", ready=False)
    producer.check(worker.wait_ready(), within=60.0 + 5 * kills)
    assert _ran(project) >= set(range(len(producer.accepted)))


def test_nothing_is_left_behind(server: RedisServer, make: Callable[..., Project]) -> None:
    project = make(server.url(), result_expires=2)
    worker = project.worker("-P", "threads", "-c", "2")
    producer = Producer(project)
    producer.send(50)
    results = [project.send("note", n, countdown=0.2, priority=n % 10) for n in range(20)]
    assert [result.get(timeout=20) for result in results] == list(range(20))
    producer.check(worker)
    assert worker.stop() == 0
    # What is of the whole and not of a task: names of queues, the last upkeep.
    of_the_whole = {"{celeriac}:queues", "{celeriac}:t"}
    eventually(lambda: server.keys() <= of_the_whole, within=15, saying=f"no keys: {server.keys()}")


def test_memory_of_a_waiting_task(server: RedisServer, make: Callable[..., Project]) -> None:
    from celeriac.kernel.message import Envelope

    project = make(server.url())
    count, size = 20_000, 500
    before = int(server.info("memory")["used_memory"])
    project.app.broker.publish(
        [Envelope(f"{n:032x}-abc", "celery", b"x" * size) for n in range(count)]
    )
    each = (int(server.info("memory")["used_memory"]) - before) / count
    assert each <= 1.3 * (size + 200), f"{each:.0f} bytes"


def test_a_worker_that_starts_before_its_server(
    server: RedisServer, make: Callable[..., Project]
) -> None:
    project = make(server.url())
    server.kill()
    worker = project.worker(ready=False)
    eventually(lambda: "trying again in" in worker.output(), saying="an attempt")
    server.start()
    worker.wait_ready()
    assert project.send("note", 1).get(timeout=20) == 1
    assert worker.stop() == 0


def test_a_worker_that_waits_for_its_server_can_be_ended(
    server: RedisServer, make: Callable[..., Project]
) -> None:
    project = make(server.url())
    server.kill()
    worker = project.worker(ready=False)
    eventually(lambda: "trying again in" in worker.output(), saying="an attempt")
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 10
    assert "ready" not in worker.output()


def test_a_worker_that_must_not_wait_for_its_server(
    server: RedisServer, make: Callable[..., Project]
) -> None:
    project = make(server.url(), broker_connection_retry_on_startup=False)
    server.kill()
    worker = project.worker(ready=False)
    assert worker.popen.wait(20) == 69
    assert str(server.port) in worker.output()
