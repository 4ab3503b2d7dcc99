"""Suites that every driver passes: subclass them, give a fixture `family`, and run pytest.

    class TestMyBroker(BrokerContract):
        @pytest.fixture
        def family(self, tmp_path):
            family = MyFamily(f"mine://{tmp_path}", {})
            yield family
            family.close()

The family is fresh for each test and not yet connected.  What a driver's `caps` deny is skipped.

May import: everything.
"""

import pytest

# Before the modules are imported, or a failing assert would not say what it saw.
for _name in ("broker", "broker_bench", "broker_model", "results", "bus", "schedules", "pool"):
    pytest.register_assert_rewrite(f"celeriac.testing.contract.{_name}")
