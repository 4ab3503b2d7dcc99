"""What `app.close()` leaves behind: nothing."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from celeriac import Celeriac
from celeriac.drivers.sqlite.files import Place, Ringer
from celeriac.testing.eventually import eventually
from celeriac.testing.running import running_worker


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_no_thread_and_no_file_stays_open(tmp_path: Path) -> None:
    app = Celeriac("closes", broker=f"sqlite:///{tmp_path}/q.db", set_as_current=False)
    t = app.task(name="t")(lambda n: n)
    threads, files = set(threading.enumerate()), []
    for _ in range(3):
        with running_worker(app, pool="solo", in_memory=False, timeout=30):
            assert t.delay(1).get(timeout=10) == 1
        app.close()
        eventually(lambda: set(threading.enumerate()) <= threads, within=3.0)
        files.append(open_files())
    assert files[0] == files[2]


def test_who_waits_while_the_app_is_closed_gets_his_result(tmp_path: Path) -> None:
    app = Celeriac("closes", broker=f"sqlite:///{tmp_path}/q.db", set_as_current=False)
    t = app.task(name="t")(lambda n: n)
    found: list[int] = []
    result = t.delay(7)
    waits = threading.Thread(target=lambda: found.append(result.get(timeout=20)))
    waits.start()
    eventually(lambda: app._watcher is not None and app._watcher._waiting)
    app.close()
    with running_worker(app, pool="solo", in_memory=False, timeout=30):
        waits.join(20)
    assert found == [7]
    app.close()


def test_a_waiter_that_leaves_while_it_is_rung(tmp_path: Path, monkeypatch: object) -> None:
    """Between the opening of its door and the ring: whoever sends a task must not hear of it."""
    place = Place(tmp_path / "q.db")
    place.prepare()
    door = place.waiters / "1-x"
    os.mkfifo(door)
    reader = os.open(door, os.O_RDONLY | os.O_NONBLOCK)
    real = os.open

    def leave(path: object, flags: int, *rest: int) -> int:
        fd = real(path, flags, *rest)  # type: ignore[call-overload]
        if path == door:
            os.close(reader)
        return int(fd)

    monkeypatch.setattr(os, "open", leave)  # type: ignore[attr-defined]
    Ringer(place).waiters()


def test_queues_without_end_cost_no_open_files_without_end(tmp_path: Path) -> None:
    """A queue for each customer is no file for each customer, held open by whoever sends."""
    app = Celeriac("queues", broker=f"sqlite:///{tmp_path}/q.db", set_as_current=False)
    t = app.task(name="t")(lambda: None)
    t.delay()
    before = open_files()
    with app.batch():
        for number in range(300):
            t.apply_async(queue=f"customer-{number}")
    assert open_files() < before + 100
    app.close()
