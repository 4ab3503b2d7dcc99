"""The walk-through longtime_add: its page, from top to bottom, on a RabbitMQ with user jimmy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.page import Reader, shown_as_they_are
from tests.support.rabbitmq import RabbitMQ
from tests.support.web import EXAMPLES, Make

pytestmark = pytest.mark.service

PAGE = EXAMPLES.parent / "docs" / "walkthrough-longtime_add.md"


@pytest.fixture
def reader(tmp_path: Path, rabbitmq: RabbitMQ, example: Make) -> Iterator[Reader]:
    """Copy the example; `rabbitmqctl` is the one of the tests' server."""
    tools = tmp_path / "bin"
    tools.mkdir()
    exports = "".join(f"export {k}='{v}'\n" for k, v in rabbitmq.environment.items())
    tool = tools / "rabbitmqctl"
    tool.write_text(f'#!/bin/sh\n{exports}exec {rabbitmq.program("rabbitmqctl")} "$@"\n')
    tool.chmod(0o755)
    copy = example(
        "longtime_add",
        BROKER_URL=f"amqp://jimmy:jimmy123@127.0.0.1:{rabbitmq.port}/jimmy_vhost",
        LONGTIME_SECONDS="1",
    )
    copy.environ["PATH"] = f"{tools}{os.pathsep}{copy.environ['PATH']}"
    made = Reader(PAGE, copy.folder, copy.env, {"localhost:5672": f"127.0.0.1:{rabbitmq.port}"})
    yield made
    made.close()
    if "jimmy_vhost" in rabbitmq.ctl("list_vhosts", "name"):
        rabbitmq.ctl("delete_vhost", "jimmy_vhost")
    if "jimmy" in rabbitmq.ctl("list_users"):
        rabbitmq.ctl("delete_user", "jimmy")


def test_the_page(reader: Reader) -> None:
    reader.read()
    worker = reader.terminals["worker"]
    # One from the script, one from the session, and the one that cannot be added.
    assert worker.output.count("long time task finished") == 3


def test_the_page_shows_the_files_as_they_are() -> None:
    shown_as_they_are(PAGE, EXAMPLES / "longtime_add")
