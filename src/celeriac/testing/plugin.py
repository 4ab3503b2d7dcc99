"""The pytest plugin: fixtures for tests of programs that use celeriac.

Nothing of celeriac is imported before a test asks for one of the fixtures.  Every test has its own
world in its own process's memory, so that tests may run in any order and under xdist.

Owns: fixtures `celeriac_app`, `celeriac_kit`, `celeriac_worker`, `celeriac_worker_options`; the
ini option `celeriac_app`.  May import: pytest; everything below when it is used.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac
    from celeriac.testing.kit import TaskKit
    from celeriac.worker.worker import Worker


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the ini option."""
    parser.addini(
        "celeriac_app",
        "the app that the fixtures celeriac_kit and celeriac_worker use, as celeriac -A takes it",
    )


@pytest.fixture
def celeriac_app(request: pytest.FixtureRequest) -> Celeriac:
    """The app under test: that of the ini option `celeriac_app`, else a new one.

    Override it in `conftest.py` to return the program's own.
    """
    where = request.config.getini("celeriac_app")
    if where:
        found: Celeriac = importlib.import_module("celeriac.cli.find").find_app(where)
        return found
    made: Celeriac = importlib.import_module("celeriac.client.app").Celeriac(
        "tests", set_as_current=False
    )
    return made


@pytest.fixture
def celeriac_kit(celeriac_app: Celeriac) -> Iterator[TaskKit]:
    """A queue, a worker and a clock in the test's hands, in the place of the app's own."""
    with importlib.import_module("celeriac.testing.kit").TaskKit(celeriac_app) as kit:
        yield kit


@pytest.fixture
def celeriac_worker_options() -> dict[str, Any]:
    """Options of `celeriac_worker`, as `running_worker` takes them; override to change them."""
    return {}


@pytest.fixture
def celeriac_worker(
    celeriac_app: Celeriac, celeriac_worker_options: dict[str, Any]
) -> Iterator[Worker]:
    """A real worker of the app, in threads of this process, with a queue in memory."""
    running = importlib.import_module("celeriac.testing.running")
    with running.running_worker(celeriac_app, **celeriac_worker_options) as worker:
        yield worker
