"""The command line with real processes: a program in a folder, a worker on a SQLite file."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import logging
import os
import time

from celeriac import Celeriac
from celeriac.exceptions import Reject
from celeriac.utils.log import get_task_logger

app = Celeriac("proj", broker=os.environ.get("TEST_BROKER"))
logger = get_task_logger(__name__)


@app.task
def add(x, y):
    logger.info("adding %s and %s", x, y)
    logging.getLogger("other").info("beside it")
    return x + y


@app.task
def fail():
    raise ValueError("on purpose")


@app.task
def reject():
    raise Reject("not today")


@app.task
def nap(seconds):
    time.sleep(seconds)
    return seconds
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a package `proj` whose app is in `proj.celery`."""
    package = tmp_path / "proj"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "celery.py").write_text(PROGRAM)
    return tmp_path


def clean_environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CELERY_", "CELERIAC_"))}
    return {**kept, "PYTHONUNBUFFERED": "1", **more}


@pytest.fixture
def run(folder: Path) -> Run:
    """Run `celeriac ...` in the folder to its end."""

    def call(*words: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "celeriac", *words],
            cwd=folder,
            env=clean_environment(**env),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return call


class Running:
    """A worker process and what it has written so far."""

    def __init__(self, folder: Path, *words: str, **env: str) -> None:
        self.log = folder / f"worker-{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celeriac", *words],
                cwd=folder,
                env=clean_environment(**env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def text(self) -> str:
        return self.log.read_text()

    def expect(self, pattern: str, seconds: float = 20.0, times: int = 1) -> str:
        until = time.monotonic() + seconds
        while len(re.findall(pattern, self.text())) < times:
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < until, f"no {pattern!r} in:\n{self.text()}"
            time.sleep(0.02)
        return self.text()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Running]]:
    """Start `celeriac ...` in the folder; ended with the test."""
    running: list[Running] = []

    def call(*words: str, **env: str) -> Running:
        running.append(Running(folder, *words, **env))
        return running[-1]

    yield call
    for one in running:
        one.stop()


Start = Callable[..., Running]
WORKER = ("-A", "proj", "worker", "-l", "INFO", "-P", "threads", "-c", "2")


# -- help, names, usage -------------------------------------------------------------------------


def test_help_and_version(run: Run) -> None:
    found = run("--help")
    assert found.returncode == 0
    for name in ("worker", "call", "result", "purge", "buried", "doctor", "demo", "settings"):
        assert name in found.stdout
    assert re.fullmatch(r"\d+\.\d+\.\S+\n", run("--version").stdout)
    assert run("version").stdout == run("--version").stdout


COMMANDS = (
    "worker call result status list purge settings doctor report shell demo completion version"
).split()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(run: Run, name: str) -> None:
    found = run(name, "--help")
    assert found.returncode == 0, found.stderr
    assert "Usage: celeriac" in found.stdout


def test_unknown_command_names_the_nearest(run: Run) -> None:
    found = run("wroker")
    assert found.returncode == 2
    assert "did you mean 'worker'" in found.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(run: Run, shell: str) -> None:
    found = run("completion", shell)
    assert found.returncode == 0
    assert "_CELERIAC_COMPLETE" in found.stdout


def test_completion_completes(run: Run) -> None:
    env = {"_CELERIAC_COMPLETE": "bash_complete", "COMP_WORDS": "celeriac wor", "COMP_CWORD": "1"}
    assert "worker" in run(**env).stdout


def test_importing_the_command_is_light() -> None:
    code = (
        "import sys, celeriac.cli.worker, celeriac.cli.root\n"
        "print([m for m in ('rich', 'celeriac.cli.demo.run', 'celeriac.cli.doctor', 'IPython')"
        " if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


@pytest.mark.parametrize("place", ["before", "after"])
def test_app_is_named_before_or_after_the_command(run: Run, place: str) -> None:
    words = ("-A", "proj", "list") if place == "before" else ("list", "-A", "proj")
    found = run(*words)
    assert found.returncode == 0, found.stderr
    assert "proj.celery.add" in found.stdout


@pytest.mark.parametrize("variable", ["CELERIAC_APP", "CELERY_APP"])
def test_app_from_the_environment(run: Run, variable: str) -> None:
    assert "proj.celery.add" in run("list", **{variable: "proj"}).stdout


def test_workdir(run: Run, folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "other.py").write_text(PROGRAM)
    for words in (("--workdir", "elsewhere", "list"), ("list", "--workdir", "elsewhere")):
        found = run("-A", "other", *words)
        assert found.returncode == 0, found.stderr
        assert "other.add" in found.stdout
    assert run("-A", "other", "list").returncode == 1
    nowhere = run("-A", "other", "--workdir", "nowhere", "list")
    assert nowhere.returncode == 2
    assert "No such file" in nowhere.stderr


def test_no_app_is_one_clear_line(run: Run) -> None:
    found = run("worker")
    assert found.returncode == 1
    assert "name it with -A" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_wrong_app_says_what_was_tried(run: Run) -> None:
    found = run("-A", "proj:nope", "worker")
    assert found.returncode == 1
    assert "proj:nope" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_broken_app_shows_its_traceback(run: Run, folder: Path) -> None:
    (folder / "proj" / "celery.py").write_text("import not_installed_at_all\n")
    found = run("-A", "proj", "worker")
    assert found.returncode == 1
    assert "import not_installed_at_all" in found.stderr
    assert "celeriac/cli/" not in found.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--autoscale", "3,10"), "is not MAX,MIN"),
        (("-D",), "systemd"),
        (("-P", "gevent"), "-P threads"),
        (("-P", "prefrok"), "did you mean 'prefork'"),
        (("-P", "threads", "--time-limit", "5"), "use -P prefork"),
        (("-c", "none"), "no number"),
        (("-l", "LOUD"), "is not one of DEBUG"),
        (("-X", "nothere"), "which is no queue"),
        (("--nonsense",), "No such option"),
    ],
)
def test_options_that_cannot_be(run: Run, words: tuple[str, ...], says: str) -> None:
    found = run("-A", "proj", "worker", *words)
    assert found.returncode != 0
    assert says in found.stderr
    assert "Traceback" not in found.stderr


def test_a_broker_that_is_no_broker(run: Run) -> None:
    found = run("-A", "proj", "-b", "sqlit:///x.db", "list")
    assert found.returncode == 1
    assert "did you mean 'sqlite'" in found.stderr
    missing = run("-A", "proj", "-b", "sqlite:////no/such/folder/x.db", "call", "proj.celery.fail")
    assert missing.returncode != 0
    assert "Traceback" not in missing.stderr
    assert "/no/such/folder" in missing.stderr


# -- a worker and its tasks ---------------------------------------------------------------------


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_worker_runs_what_is_called(run: Run, start: Start, folder: Path, pool: str) -> None:
    worker = start("-A", "proj", "worker", "-l", "INFO", "-P", pool, "-c", "2", "-n", "w1@%h")
    text = worker.expect(r"w1@\S+ ready\.")
    assert "[config]" in text
    assert f".> concurrency: {1 if pool == 'solo' else 2} ({pool})" in text
    assert str(folder / "proj.celeriac.db") in text
    assert "exchange=celery(direct) key=celery" in text
    assert ". proj.celery.add" in text

    sent = run("-A", "proj", "call", "proj.celery.add", "--args", "[2, 3]")
    assert sent.returncode == 0, sent.stderr
    task_id = sent.stdout.strip()
    text = worker.expect(rf"Task proj\.celery\.add\[{task_id}\] succeeded in")
    assert re.search(
        rf"\[\S+ \S+: INFO/[\w-]+\] proj\.celery\.add\[{task_id}\]: adding 2 and 3", text
    )
    assert re.search(r": INFO/[\w-]+\] beside it", text)
    found = run("-A", "proj", "result", task_id)
    assert (found.returncode, found.stdout) == (0, "5\n")
    assert json.loads(run("-A", "proj", "result", task_id, "--json").stdout)["result"] == 5

    online = run("-A", "proj", "status")
    assert online.returncode == 0, online.stderr
    assert "1 node online." in online.stdout
    nodes = json.loads(run("-A", "proj", "status", "--json").stdout)
    assert [name.split("@")[0] for name in nodes] == ["w1"]
    assert worker.stop() == 0
    assert "Warm shutdown" in worker.text()


def test_a_failure_is_shown(run: Run, start: Start) -> None:
    start(*WORKER).expect("ready")
    sent = run("-A", "proj", "call", "proj.celery.fail", "--wait", "20")
    assert sent.returncode == 1
    assert "FAILURE: ValueError: on purpose" in sent.stderr
    task_id = sent.stdout.split()[0]
    shown = run("-A", "proj", "result", task_id, "--traceback")
    assert shown.returncode == 1
    assert 'raise ValueError("on purpose")' in shown.stdout


def test_calls_that_cannot_be(run: Run) -> None:
    app = ("-A", "proj")
    unknown = run(*app, "call", "proj.celery.ad")
    assert unknown.returncode == 1
    assert "did you mean 'proj.celery.add'" in unknown.stderr
    assert run(*app, "call", "proj.celery.ad", "--unknown").returncode == 0
    wrong = run(*app, "call", "proj.celery.add", "--args", "[1]")
    assert wrong.returncode == 1
    assert "missing 1 required positional argument" in wrong.stderr
    for args in ("[1", '{"x": 1}'):
        bad = run(*app, "call", "proj.celery.add", "--args", args)
        assert bad.returncode == 2
        assert "JSON" in bad.stderr
    for found in (unknown, wrong):
        assert "Traceback" not in found.stderr


def test_result_that_is_not_there(run: Run) -> None:
    found = run("-A", "proj", "result", "no-such-id")
    assert found.returncode == 75
    assert "PENDING" in found.stderr


def test_no_worker_is_69(run: Run) -> None:
    found = run("-A", "proj", "status", "-t", "0.2")
    assert found.returncode == 69
    assert "no worker answered" in found.stderr


def test_list_and_purge(run: Run) -> None:
    for _ in range(3):
        run("-A", "proj", "call", "proj.celery.fail")
    run("-A", "proj", "call", "proj.celery.fail", "--countdown", "60", "--queue", "slow")
    listed = json.loads(run("-A", "proj", "list", "--json").stdout)
    counts = {row["queue"]: (row["ready"], row["delayed"]) for row in listed["queues"]}
    assert counts["celery"] == (3, 0)
    assert counts["slow"] == (0, 1)
    assert "proj.celery.add" in listed["tasks"]
    assert run("-A", "proj", "purge", stdin="n\n").returncode == 1
    assert "3 tasks dropped" in run("-A", "proj", "purge", stdin="y\n").stdout
    assert "nothing waits" in run("-A", "proj", "purge", "-f").stdout
    assert "1 tasks dropped" in run("-A", "proj", "purge", "-f", "-Q", "slow").stdout


def test_buried(run: Run, start: Start) -> None:
    worker = start(*WORKER)
    worker.expect("ready")
    ids = [run("-A", "proj", "call", "proj.celery.reject").stdout.strip() for _ in range(2)]
    until = time.monotonic() + 20
    listed: list[dict[str, Any]] = []
    while len(listed) < 2 and time.monotonic() < until:
        listed = json.loads(run("-A", "proj", "buried", "list", "--json").stdout)
    assert {one["id"] for one in listed} == set(ids)
    assert "not today" in listed[0]["reason"]
    worker.stop()

    shown = run("-A", "proj", "buried", "show", ids[0])
    assert "proj.celery.reject" in shown.stdout
    assert "not today" in shown.stdout
    assert run("-A", "proj", "buried", "show", "nope").returncode == 1
    assert "1 tasks put back" in run("-A", "proj", "buried", "requeue", ids[0]).stdout
    assert run("-A", "proj", "result", ids[0]).returncode == 75
    assert run("-A", "proj", "buried", "drop").returncode == 2
    assert run("-A", "proj", "buried", "drop", "--all", "-f").returncode == 0
    assert "nothing is buried" in run("-A", "proj", "buried", "list").stdout


def test_include_and_own_logging(run: Run, start: Start, folder: Path) -> None:
    (folder / "more.py").write_text(
        "import logging\nfrom celeriac import shared_task\n"
        "logging.basicConfig(format='MINE %(message)s', level='INFO')\n"
        "@shared_task\ndef extra():\n    logging.getLogger('x').info('in extra')\n"
    )
    (folder / "proj" / "__init__.py").write_text("import more\n")
    worker = start(*WORKER, "-I", "more")
    worker.expect(r"MINE celery@\S+ ready\.")
    run("-A", "proj", "call", "more.extra")
    text = worker.expect("MINE in extra")
    assert "INFO/" not in text, "a program's own logging is left alone"


def test_logfile_and_pidfile(run: Run, start: Start, folder: Path) -> None:
    words = (*WORKER, "-n", "w2@%h", "--logfile", "%n.log", "--pidfile", "w.pid")
    (folder / "w.pid").write_text("999999999\n")
    worker = start(*words)
    until = time.monotonic() + 20
    log = folder / "w2.log"
    while not (log.exists() and "ready" in log.read_text()):
        assert time.monotonic() < until
        assert worker.process.poll() is None, worker.text()
        time.sleep(0.05)
    assert (folder / "w.pid").read_text() == f"{worker.process.pid}\n"
    second = run(*words)
    assert second.returncode == 73
    assert f"process {worker.process.pid}" in second.stderr
    assert worker.stop() == 0
    assert not (folder / "w.pid").exists()


def test_quiet_prints_no_banner(start: Start) -> None:
    worker = start("-q", *WORKER)
    worker.expect("ready")
    assert "[config]" not in worker.text()


def test_purge_option(run: Run, start: Start) -> None:
    task_id = run("-A", "proj", "call", "proj.celery.fail").stdout.strip()
    worker = start(*WORKER, "--purge")
    worker.expect("ready")
    assert "purged 1 messages" in worker.text()
    assert task_id not in worker.text()


def test_app_worker_main(run: Run, folder: Path) -> None:
    """Celery's other way to start a worker; it returns when the worker has ended."""
    (folder / "main.py").write_text(
        "import os, signal, threading\n"
        "from proj.celery import app\n"
        "stop = lambda: os.kill(os.getpid(), signal.SIGTERM)\n"
        "threading.Timer(1.5, stop).start()\n"
        'app.worker_main(["worker", "-P", "solo", "-l", "INFO"])\n'
        'print("after it")\n'
    )
    found = subprocess.run(
        [sys.executable, "main.py"],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert "ready." in found.stderr
    assert "after it" in found.stdout


def test_options_of_celery_that_are_not_needed(start: Start) -> None:
    worker = start(
        *WORKER, "-E", "-Ofair", "--without-gossip", "--without-mingle", "--without-heartbeat"
    )
    worker.expect("ready")
    assert worker.stop() == 0


def test_reload(run: Run, start: Start, folder: Path) -> None:
    worker = start(*WORKER, "--reload")
    worker.expect("ready")
    source = folder / "proj" / "celery.py"
    # Of another size: bytecode of the same second and size would be taken for this one.
    source.write_text(source.read_text().replace("return x + y", "return x * y  # new"))
    worker.expect(r"ready\.", times=2)
    found = run("-A", "proj", "call", "proj.celery.add", "-a", "[5, 7]", "--wait", "20")
    assert "35" in found.stdout
    assert worker.stop() == 0


def test_reload_that_is_killed_takes_its_worker_along(start: Start, folder: Path) -> None:
    worker = start(*WORKER, "--reload", "--pidfile", "w.pid")
    worker.expect("ready")
    child = int((folder / "w.pid").read_text())
    assert child != worker.process.pid
    worker.process.send_signal(signal.SIGKILL)
    worker.process.wait()
    until = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()


# -- what it says of itself ---------------------------------------------------------------------


SECRET = "hunter2"  # not a secret: what must not be seen


def test_report_and_settings_hide_secrets(run: Run) -> None:
    env = {"CELERIAC_RESULT_BACKEND": f"redis://user:{SECRET}@nowhere:1/0"}
    for words in (("report",), ("settings",), ("settings", "result_backend"), ("report", "--json")):
        found = run("-A", "proj", *words, **env)
        assert found.returncode == 0, found.stderr
        assert "redis://user:**@nowhere" in found.stdout
        assert SECRET not in found.stdout + found.stderr


def test_settings(run: Run) -> None:
    one = run("-A", "proj", "settings", "task_max_deliveries")
    assert one.returncode == 0
    assert "task_max_deliveries" in one.stdout
    wrong = run("-A", "proj", "settings", "task_max_delivries")
    assert wrong.returncode == 1
    assert "did you mean 'task_max_deliveries'" in wrong.stderr
    every = json.loads(run("-A", "proj", "settings", "--all", "--json").stdout)
    assert {"name", "value", "origin", "default", "help"} <= set(every[0])
    assert len(every) > 50
    set_ = json.loads(run("-A", "proj", "-b", "sqlite:///x.db", "settings", "--json").stdout)
    origins = {row["name"]: row["origin"] for row in set_}
    assert origins["broker_url"] == "command line"


def test_doctor_is_content(run: Run, start: Start) -> None:
    start(*WORKER).expect("ready")
    found = run("-A", "proj", "doctor")
    assert found.returncode == 0, found.stdout
    for line in ("ok    broker", "ok    results", "ok    journal", "ok    promise", "settles_with"):
        assert line in found.stdout
    assert "at least once" in found.stdout


def test_doctor_finds_what_is_wrong(run: Run, folder: Path) -> None:
    found = run("-A", "nope", "doctor")
    assert found.returncode == 1
    assert "fail  app" in found.stdout
    (folder / "broken.db").write_bytes(b"this is no database" * 1000)
    found = run("-A", "proj", "-b", f"sqlite:///{folder}/broken.db", "doctor")
    assert found.returncode == 1
    assert "fail  broker" in found.stdout
    run("-A", "proj", "list")
    (folder / "proj.celeriac.db").chmod(0o644)
    found = run("-A", "proj", "doctor")
    assert "chmod 600" in found.stdout
    as_json = json.loads(run("-A", "proj", "doctor", "--json").stdout)
    assert {"verdict", "what", "says", "advice"} == set(as_json[0])


def test_shell(run: Run) -> None:
    found = run("-A", "proj", "shell", "--python", stdin="print(add(2, 3), app.main)\n")
    assert found.returncode == 0, found.stderr
    assert "5 proj" in found.stdout
