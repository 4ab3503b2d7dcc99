"""Fixtures of the engine's tests: an app of the test's own, and a kit around it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from celeriac import Celeriac
from celeriac.testing import TaskKit


@pytest.fixture
def app() -> Celeriac:
    return Celeriac("proj", set_as_current=False)


@pytest.fixture
def kit(app: Celeriac) -> Iterator[TaskKit]:
    with TaskKit(app) as kit:
        yield kit
