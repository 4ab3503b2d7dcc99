"""Events on the SQLite bus: a listener that never reads, and a file that does not grow with them."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from celeriac import Celeriac
from celeriac.drivers.sqlite import bus as sqlite_bus
from celeriac.testing.eventually import eventually
from celeriac.testing.running import running_worker


@pytest.fixture
def app(tmp_path: Path) -> Celeriac:
    return Celeriac("proj", broker=f"sqlite:///{tmp_path / 'queue.db'}", set_as_current=False)


def test_a_listener_that_never_reads(app: Celeriac) -> None:
    @app.task
    def work() -> None: ...

    deaf, keen = app.events.Receiver(), app.events.Receiver()
    deaf.listen()
    keen.listen()
    found: list[str] = []
    with running_worker(app, in_memory=False, task_events=True) as worker:
        for _ in range(5):
            with app.batch():
                results = [work.delay() for _ in range(100)]
            for result in results:
                result.get(timeout=20)
        eventually(
            lambda: (
                found.extend(e["type"] for e in keen.poll(0.1))
                or found.count("task-succeeded") == 500
            )
        )
        assert worker.events is not None
        assert worker.events.dropped == 0  # type: ignore[attr-defined]
    deaf.close()
    keen.close()
    app.close()


def test_the_file_forgets_events_soon(app: Celeriac, monkeypatch: pytest.MonkeyPatch) -> None:
    app.bus.send("control", [b"kept"])
    app.bus.send("events", [b"[]"] * 50)
    monkeypatch.setattr(sqlite_bus, "EVENTS_KEPT_FOR", -1.0)  # whatever is there is old
    app.bus.send("events", [b"[]"])
    rows = app.bus._db.read("SELECT topic, count(*) FROM news GROUP BY topic")  # type: ignore[attr-defined]
    assert dict(rows) == {"control": 1}
    app.close()


def test_what_nobody_listens_to_is_not_written(tmp_path: Path) -> None:
    app = Celeriac("quiet", broker=f"sqlite:///{tmp_path / 'q.db'}", set_as_current=False)
    reader = apsw.Connection(str(tmp_path / "q.db"))
    try:

        def say(name: str) -> None:
            with app.events.Dispatcher(hostname="me@here") as dispatcher:
                dispatcher.send(name)

        def rows() -> int:
            return int(
                reader.execute("SELECT count(*) FROM news WHERE topic = 'events'").fetchall()[0][0]
            )

        app.bus.send("other", [b"makes the table"])
        say("a-b")
        assert rows() == 0
        with app.events.Receiver() as receiver:
            say("c-d")
            assert [event["type"] for event in receiver.poll(5.0)] == ["c-d"]
        say("e-f")
        assert rows() == 1
    finally:
        reader.close()
        app.close()
