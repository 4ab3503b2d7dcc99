"""Fixtures that any test may use."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.certificates import certificates
from tests.support.postgres import PostgreSQL
from tests.support.project import Project
from tests.support.rabbitmq import RabbitMQ, need_rabbitmq
from tests.support.rabbitmq import start as start_rabbitmq


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Callable[[str], Project]]:
    """Make a project from a module's source; its workers are killed at the end."""
    made: list[Project] = []

    def make(source: str) -> Project:
        made.append(Project(tmp_path, source))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """Start one RabbitMQ for all tests of a session; skip where there is none, but not in CI."""
    need_rabbitmq()
    folder = tmp_path_factory.mktemp("rmq")
    tls = certificates(folder / "tls") if shutil.which("openssl") else None
    server = start_rabbitmq(folder, tls=tls)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgreSQL]:
    """Start one PostgreSQL for all tests of a session; skip where there is none, but not in CI."""
    server = PostgreSQL().start()
    yield server
    server.stop()
