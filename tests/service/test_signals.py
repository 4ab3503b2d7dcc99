"""Signals of a real worker: its processes, its logging, its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.support.project import Project, eventually

SOURCE = """
from celeriac import signals

def note(*words):
    with (HERE / "noted").open("a") as file:
        print(os.getpid(), *words, file=file)

@signals.worker_before_create_process.connect
def before(**kwargs):
    note("before-create")

@signals.worker_process_init.connect
def begin(sender, **kwargs):
    note("process-init", sender)

@signals.worker_process_shutdown.connect
def end(pid, exitcode, **kwargs):
    note("process-shutdown", pid, exitcode)

@signals.worker_shutting_down.connect
def ending(sender, sig, how, exitcode, **kwargs):
    note("shutting-down", sig, how)

@signals.user_preload_options.connect
def options(app, options, **kwargs):
    note("preload", options["app"], app.main)

@signals.task_prerun.connect
def prerun(task_id, **kwargs):
    note("prerun", task_id)

@signals.task_failure.connect
def failure(task_id, exception, **kwargs):
    note("failure", task_id, type(exception).__name__)

@app.task
def work():
    return os.getpid()

@app.task(acks_late=False)
def die():
    os.kill(os.getpid(), signal.SIGKILL)
"""

LOGGING = """
import logging
from celeriac import signals

@signals.setup_logging.connect
def mine(loglevel, logfile, format, colorize, **kwargs):
    logging.basicConfig(level=loglevel, format="MINE %(message)s")
"""

AFTER = """
import logging
from celeriac import signals

@signals.after_setup_logger.connect
def mine(logger, **kwargs):
    for handler in logger.handlers:
        handler.setFormatter(logging.Formatter("ROOT %(message)s"))

@signals.after_setup_task_logger.connect
def tasks(logger, **kwargs):
    logger.warning("a logger of tasks: %s", logger.name)
"""


def noted(folder: Path) -> list[list[str]]:
    try:
        return [line.split() for line in (folder / "noted").read_text().splitlines()]
    except FileNotFoundError:
        return []


def test_processes_begin_and_end(project: Callable[[str], Project]) -> None:
    made = project(SOURCE)
    worker = made.worker("-c", "2", "-n", "w1@here")
    children = {str(pid) for pid in eventually(lambda: worker.children())}
    result = made.send("work")
    assert str(result.get(timeout=20)) in children
    assert worker.stop() == 0
    found = noted(made.folder)
    parent = str(worker.pid)
    assert [parent, "preload", "proj", "proj"] in found
    assert found.count([parent, "before-create"]) == 1
    begun = [words for words in found if words[1] == "process-init"]
    assert {words[0] for words in begun} == children
    assert {words[2] for words in begun} == {"w1@here"}
    ended = [words for words in found if words[1] == "process-shutdown"]
    assert sorted(ended) == sorted([pid, "process-shutdown", pid, "0"] for pid in children)
    assert [parent, "shutting-down", "SIGTERM", "Warm"] in found
    (prerun,) = [words for words in found if words[1] == "prerun"]
    assert prerun[0] in children
    assert prerun[2] == result.id


def test_a_lost_task_is_told_of_by_the_parent(project: Callable[[str], Project]) -> None:
    made = project(SOURCE)
    worker = made.worker("-c", "1")
    result = made.send("die")
    wanted = [str(worker.pid), "failure", result.id, "WorkerLostError"]
    eventually(lambda: wanted in noted(made.folder), saying="the signal")


def test_a_receiver_sets_up_logging(project: Callable[[str], Project]) -> None:
    worker = project(LOGGING).worker("-P", "solo")
    assert "MINE celery@" in worker.output()


def test_receivers_change_the_loggers(project: Callable[[str], Project]) -> None:
    worker = project(AFTER).worker("-P", "solo")
    assert "ROOT a logger of tasks: celeriac.task" in worker.output()
