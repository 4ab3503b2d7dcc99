"""The SQLite driver against the contracts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celeriac.testing.contract.broker import BrokerContract
from celeriac.testing.contract.bus import BusContract
from celeriac.testing.contract.results import ResultsContract
from celeriac.testing.contract.schedules import SchedulesContract

sqlite = pytest.importorskip("celeriac.drivers.sqlite")
if not hasattr(sqlite, "SQLiteFamily"):
    pytest.skip("the driver is not there yet", allow_module_level=True)


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Any]:
    family = sqlite.SQLiteFamily(f"sqlite:///{tmp_path / 'app.db'}", {})
    yield family
    family.close()


class TestBroker(BrokerContract):
    pass


class TestResults(ResultsContract):
    pass


class TestBus(BusContract):
    pass


class TestSchedules(SchedulesContract):
    pass
