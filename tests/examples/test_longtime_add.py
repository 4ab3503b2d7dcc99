"""The walk-through longtime_add: its page is run from top to bottom, on a RabbitMQ with user jimmy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.rabbitmq import RabbitMQ
from tests.support.walk import Walk, shown_as_they_are

EXAMPLE = Path(__file__).parents[2] / "examples" / "longtime_add"


@pytest.fixture
def walk(tmp_path: Path, rabbitmq: RabbitMQ) -> Iterator[Walk]:
    """Copy the example; its `rabbitmqctl` is the one of the tests' server."""
    folder = tmp_path / "longtime_add"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    tools = tmp_path / "bin"
    tools.mkdir()
    exports = "".join(f"export {k}='{v}'\n" for k, v in rabbitmq.environment.items())
    tool = tools / "rabbitmqctl"
    tool.write_text(f'#!/bin/sh\n{exports}exec {rabbitmq.program("rabbitmqctl")} "$@"\n')
    tool.chmod(0o755)
    url = f"amqp://jimmy:jimmy123@127.0.0.1:{rabbitmq.port}/jimmy_vhost"
    made = Walk(
        folder,
        {"BROKER_URL": url, "LONGTIME_SECONDS": "1"},
        {"localhost:5672": f"127.0.0.1:{rabbitmq.port}"},
    )
    made.env["PATH"] = f"{tools}{os.pathsep}{made.env['PATH']}"
    yield made
    made.close()
    if "jimmy_vhost" in rabbitmq.ctl("list_vhosts", "name"):
        rabbitmq.ctl("delete_vhost", "jimmy_vhost")
        rabbitmq.ctl("delete_user", "jimmy")


def test_the_page(walk: Walk) -> None:
    walk.page("walkthrough-longtime_add")
    (_, worker), *_ = walk.started
    assert worker.output().count("long time task finished") == 3
    assert worker.popen.returncode == 0


def test_the_page_shows_the_files_as_they_are() -> None:
    shown_as_they_are("walkthrough-longtime_add", EXAMPLE)
