"""docs/walkthrough-storefront.md, every command of it, with what it says is printed."""

from __future__ import annotations

import pytest
from tests.support.page import follow
from tests.support.ports import free_port
from tests.support.web import Make

pytestmark = [pytest.mark.service, pytest.mark.timeout(300)]


def test_the_page(example: Make) -> None:
    site, flower, redis = str(free_port()), str(free_port()), str(free_port())
    shop = example(
        "storefront",
        REDIS_URL=f"redis://localhost:{redis}/1",
        NOTIFY_SECONDS="0.5",
        PYTHONWARNINGS="ignore",  # Flower's
    )
    changes = {
        "cd examples/storefront": "cd .",
        "8000": site,
        "5555": flower,
        "6379": redis,
        "redis-cli": f"redis-cli -p {redis}",
        "visitor.py": f"visitor.py --site http://localhost:{site}/",
    }
    follow("walkthrough-storefront", shop, changes)
