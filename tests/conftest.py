"""Fixtures that any test may use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.project import Project


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
