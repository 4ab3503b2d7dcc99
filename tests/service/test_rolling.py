"""A rolling deploy: a message that one worker does not know runs in another that does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.support.project import Project, eventually

from celeriac.kernel.states import FAILURE

OLD = """
    app.conf.update(task_unknown_delay=0.05, task_unknown_patience=60)

    @app.task
    def old():
        return "old"
    """


def test_an_unknown_task_waits_for_a_worker_that_knows_it(
    project: Callable[[str], Project], tmp_path: Path
) -> None:
    made = project(OLD)
    worker = made.worker("-c", "1")
    results = [made.app.send_task("new.new", (number,)) for number in range(20)]
    eventually(lambda: worker.output().count("is handed back") >= 20, saying="messages handed back")
    assert made.send("old").get(timeout=20) == "old"
    assert not made.app.broker.buried(limit=1)
    newer = Project(
        tmp_path,
        """
        app.conf.update(task_unknown_delay=0.05)

        @app.task
        def new(number):
            return number * 2
        """,
        name="new",
    )
    try:
        newer.worker("-c", "1", "-n", "new@%h")
        # The deploy goes on: the old worker ends.  Until then either may be offered a message.
        assert worker.stop() == 0
        assert [result.get(timeout=60) for result in results] == [n * 2 for n in range(20)]
    finally:
        newer.close()


def test_patience_ends(project: Callable[[str], Project]) -> None:
    made = project(OLD.replace("task_unknown_patience=60", "task_unknown_patience=0.3"))
    made.worker("-c", "1")
    result = made.app.send_task("nobody.knows")
    eventually(lambda: made.app.broker.buried(limit=1), saying="a burial")
    assert "NotRegistered" in made.app.broker.buried(limit=1)[0].reason
    assert result.state == FAILURE
