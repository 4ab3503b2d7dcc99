"""The walk-through dcelery: its page from top to bottom, its site, and what Docker would run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from tests.support.browser import BINARY, dom
from tests.support.page import Reader, shown_as_they_are
from tests.support.ports import free_port
from tests.support.project import eventually
from tests.support.rabbitmq import RabbitMQ, need_rabbitmq
from tests.support.redis import RedisServer, need_redis
from tests.support.web import EXAMPLES, Make

pytestmark = pytest.mark.service

HERE = EXAMPLES / "dcelery"
PAGE = EXAMPLES.parent / "docs" / "walkthrough-dcelery.md"


@pytest.fixture
def reader(tmp_path: Path, example: Make) -> Iterator[Reader]:
    """Copy the example; its `rabbitmq-server` has a node, a folder and ports of its own."""
    need_redis()
    need_rabbitmq()
    server = RabbitMQ(tmp_path / "rabbitmq")
    tools = tmp_path / "bin"
    tools.mkdir()
    tool = tools / "rabbitmq-server"
    exports = "".join(f"export {k}='{v}'\n" for k, v in server.environment.items())
    tool.write_text(f"#!/bin/sh\n{exports}exec {server.program('rabbitmq-server')}\n")
    tool.chmod(0o755)
    redis_port, web_port = free_port(), free_port()
    copy = example(
        "dcelery",
        REDIS_URL=f"redis://127.0.0.1:{redis_port}/0",
        REDIS_PORT=str(redis_port),
        RABBITMQ_NODE_PORT=str(server.port),
        WEB=f"127.0.0.1:{web_port}",
        TASK_SECONDS="0.3",
    )
    copy.environ["PATH"] = f"{tools}{os.pathsep}{copy.environ['PATH']}"
    ports = {
        "localhost:6379": f"127.0.0.1:{redis_port}",
        "localhost:5672": f"127.0.0.1:{server.port}",
        "localhost:8000": f"127.0.0.1:{web_port}",
    }
    # A server starts epmd, if none runs on its port, and leaves it behind: this one is ours to end.
    epmd = subprocess.Popen(
        ["epmd", "-port", str(server.epmd_port)],
        env=server.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    made = Reader(PAGE, copy.folder, copy.env, ports)
    yield made
    for terminal in made.terminals.values():
        if (
            terminal.popen.poll() is None
        ):  # the test has failed: what runs below it is ended by it alone
            terminal.interrupt()
    made.close()
    epmd.kill()
    epmd.wait(10)


def test_the_page(reader: Reader) -> None:
    reader.read()
    assert reader.terminals["run"].popen.returncode is not None
    began = [
        float(at) for at in re.findall(r": \(\d, ([\d.]+)\)", reader.terminals["worker1"].output)
    ]
    limited, freed = began[:6], began[6:]
    assert len(freed) == 6
    assert all(later - at > 0.45 for at, later in pairwise(limited))
    assert freed[-1] - freed[0] < 2


def test_the_page_shows_the_files_as_they_are() -> None:
    shown_as_they_are(PAGE, HERE)


# -- Docker, read and not run ----------------------------------------------------------------------


def procfile() -> dict[str, str]:
    """Return the commands that are run without Docker, as they are where nothing is set."""
    pairs = (line.split(": ", 1) for line in (HERE / "Procfile").read_text().splitlines())
    return {name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", command) for name, command in pairs}


def test_compose_runs_what_the_procfile_runs() -> None:
    services = yaml.safe_load((HERE / "compose.yaml").read_text())["services"]
    assert set(services) == set(procfile())
    for name in ("worker1", "worker2"):
        assert services[name]["command"] == procfile()[name]
    in_a_container = procfile()["web"].replace("127.0.0.1:8000", "0.0.0.0:8000")
    assert services["web"]["command"] == in_a_container
    for name in ("web", "worker1", "worker2"):
        service = services[name]
        assert service["build"] == "."
        waited_for = {key: value["condition"] for key, value in service["depends_on"].items()}
        assert waited_for == {"redis": "service_healthy", "rabbitmq": "service_healthy"}
        broker, store = (urlsplit(service["environment"][f"{x}_URL"]) for x in ("BROKER", "REDIS"))
        # Hosts are services, and the login is the one that RabbitMQ is started with.
        assert (broker.hostname, store.hostname) == ("rabbitmq", "redis")
        made = services["rabbitmq"]["environment"]
        assert broker.username == made["RABBITMQ_DEFAULT_USER"]
        assert broker.password == made["RABBITMQ_DEFAULT_PASS"]
        assert broker.path == f"/{made['RABBITMQ_DEFAULT_VHOST']}"
    for name in ("redis", "rabbitmq"):
        assert services[name]["healthcheck"]["test"][0] == "CMD"
        assert "build" not in services[name] and ":" in services[name]["image"]
    # Nothing but the site is to be reached from outside, and that from this machine only.
    assert {n: s["ports"] for n, s in services.items() if "ports" in s} == {
        "web": ["127.0.0.1:8000:8000"]
    }


def test_the_dockerfile() -> None:
    text = (HERE / "Dockerfile").read_text()
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line[:1] not in ("", "#")]
    words = [word for word, _ in lines]
    assert words[0] == "FROM" and words[-1] == "CMD"
    known = {"FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "EXPOSE", "CMD"}
    assert set(words) <= known
    for word, rest in lines:
        if word == "COPY":
            *sources, _ = shlex.split(rest)
            assert all((HERE / source).exists() for source in sources)
    web = yaml.safe_load((HERE / "compose.yaml").read_text())["services"]["web"]["command"]
    assert json.loads(dict(lines)["CMD"]) == web.split()
    # What runs is not root.
    assert words.index("USER") > max(i for i, word in enumerate(words) if word == "RUN")


# -- the site --------------------------------------------------------------------------------------


def test_the_site(example: Make, redis_server: RedisServer) -> None:
    copy = example("dcelery", REDIS_URL=redis_server.url(), TASK_SECONDS="0.1")
    one = copy.worker("-n", "worker1@%h", "-Q", "queue1")
    two = copy.worker("-n", "worker2@%h", "-Q", "queue2,tasks")
    web = copy.serve()
    wanted = {
        "queues": "[&#x27;this by task1&#x27;, &#x27;that by task2&#x27;]",
        "groups": "[0, 2, 4, 6, 8]",
        "chains": "16",
        "immutable": "both are done",
        "summary": "20",
    }
    for name, result in wanted.items():
        shown = web.submit(f"/start/{name}/", page="/")
        assert shown.url.path.startswith(f"/result/{name}/")
        found = eventually(
            lambda url=shown.url.path: re.search(r'id="result">(.*)</code>', web.get(url).text),
            saying=name,
        )
        assert found[1] == result
    assert web.submit("/start/nothing/", page="/").status_code == 404
    assert web.get("/start/groups/").status_code == 405
    if BINARY is not None:  # a browser
        shown = web.submit("/start/summary/", page="/").url
        eventually(lambda: "The result" in web.get(shown.path).text, saying="a result")
        assert '<code id="result">20</code>' in dom(str(shown))
        assert dom(f"{web.url}/").count("<button>") == 7
    assert "task1" in one.output().partition("ready.")[2]
    assert "task1" not in two.output().partition("ready.")[2]
    assert one.stop() == 0 and two.stop() == 0
