"""examples/storefront: a view, a worker that comes and goes, beat, and those who watch."""

from __future__ import annotations

import re
import sys
import time
from datetime import datetime
from itertools import pairwise

import pytest
from tests.support import browser
from tests.support.page import Terminal
from tests.support.ports import free_port
from tests.support.project import eventually
from tests.support.redis import RedisServer
from tests.support.web import Example, Make

pytestmark = pytest.mark.service


@pytest.fixture
def shop(example: Make, redis_server: RedisServer) -> Example:
    made = example("storefront", REDIS_URL=redis_server.url(1), NOTIFY_SECONDS="0.5")
    made.migrate()
    return made


def test_a_view_and_a_worker_that_comes_and_goes(shop: Example, redis_server: RedisServer) -> None:
    web = shop.serve()
    page = web.get("/").text
    assert "Pot with a lid" in page and "Nothing yet" in page

    worker = shop.worker("-c", "2")
    began = time.monotonic()
    page = web.submit("/notify/", {"text": "Hello"}, page="/")
    assert page.status_code == 200 and "Customers are being told" in page.text
    assert time.monotonic() - began < 5
    eventually(lambda: "<td>100</td>" in web.get("/").text, saying="a hundred customers")
    assert "telling all customers: Hello" in worker.output()
    assert worker.stop() == 0

    # Nobody works, the shop is open.
    page = web.submit("/notify/", {"text": "Soup is ready"}, page="/")
    assert "Customers are being told" in page.text
    assert "Soup is ready" not in web.get("/").text
    assert redis_server.cli("INFO", "keyspace").keys() == {"db1"}

    worker = shop.worker("-c", "2")
    eventually(lambda: "<td>Soup is ready</td>" in web.get("/").text, saying="the waiting task")
    assert worker.stop() == 0


def test_beat(shop: Example) -> None:
    worker = shop.worker("-c", "2")
    beat = shop.celeriac("-A", "storefront", "beat", "-l", "INFO")
    ticks = eventually(lambda: _three(_times(beat.output(), "say-hello")), saying="three ticks")
    for one, other in pairwise(ticks):
        assert (other - one).total_seconds() == pytest.approx(5, abs=1)
    eventually(lambda: "100 customers were told" in worker.output())

    listed = shop.run(sys.executable, "-m", "celeriac", "-A", "storefront", "schedule", "list")
    print(listed, beat.output())
    (monday,) = _times(listed, "monday-report")
    assert (monday.isoweekday(), monday.hour, monday.minute) == (1, 7, 30)
    (quarter,) = _times(listed, "kept-notices")
    assert quarter.minute % 15 == 0
    assert beat.stop() == 0
    assert worker.stop() == 0


def _times(text: str, having: str = "") -> list[datetime]:
    stamp = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d")
    lines = [line for line in text.splitlines() if having in line]
    return [datetime.fromisoformat(found[0]) for line in lines if (found := stamp.search(line))]


def _three(times: list[datetime]) -> list[datetime]:
    return times[-3:] if len(times) >= 3 else []


def test_those_who_watch(shop: Example, redis_server: RedisServer) -> None:
    browser.need_chromium()
    web = shop.serve()
    shop.worker("-c", "2", "-n", "w1@shop")
    port = str(free_port())
    shop.environ |= {"PYTHONWARNINGS": "ignore", "TZ": "UTC"}
    words = ("flower", "--address=127.0.0.1", f"--port={port}")
    flower = shop.start(sys.executable, "-m", "celery", "-b", redis_server.url(1), *words)
    top = Terminal("celeriac -A storefront top --interval 0.5", shop.folder, shop.env)
    try:
        eventually(lambda: "w1@shop" in top.output, saying="the worker in top")
        eventually(lambda: "Visit me at" in flower.output(), saying="flower")

        def seen() -> str:
            # Flower answers before it listens: send until it has seen one.
            web.submit("/notify/", {"text": "Hello"}, page="/")
            tasks = browser.dom(f"http://127.0.0.1:{port}/tasks")
            return tasks if "SUCCESS" in tasks else ""

        assert "shop.tasks.notify_customers" in eventually(seen, within=40, saying="a task")
        workers = browser.dom(f"http://127.0.0.1:{port}/workers")
        assert "w1@shop" in workers and "Online" in workers
        # The worker's zone is Django's, Berlin, and Flower's another: the times agree all the same.
        assert "Substantial drift" not in flower.output()
        eventually(lambda: "shop.tasks.notify_customers" in top.output, saying="a task in top")
        picture = shop.folder / "shop.png"
        browser.screenshot(web.url, picture)
        assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000
        top.press("q")
        assert top.popen.wait(20) == 0
    finally:
        top.close()
