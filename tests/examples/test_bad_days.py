"""The examples on a bad day: Redis is away or silent, code is broken, a setting is misspelt."""

from __future__ import annotations

import sys
import time

import pytest
from tests.support.project import eventually
from tests.support.redis import RedisServer
from tests.support.web import Example, Make

pytestmark = pytest.mark.service

WORKER = (sys.executable, "-m", "celeriac", "-A", "storefront", "worker")


@pytest.fixture
def shop(example: Make, redis_server: RedisServer) -> Example:
    return example("storefront", REDIS_URL=redis_server.url(1), NOTIFY_SECONDS="0")


@pytest.mark.parametrize("how", ["gone", "silent"])
def test_redis_is_away(example: Make, tmp_path_factory: pytest.TempPathFactory, how: str) -> None:
    with RedisServer(tmp_path_factory.mktemp("redis"), fsync="always") as redis:
        shop = example("storefront", REDIS_URL=redis.url(1), NOTIFY_SECONDS="0", DEBUG="0")
        shop.migrate()
        keeping, strict = shop.serve(), shop.serve(KEEP_NOTICES="0")
        for web in (keeping, strict):  # both are connected
            assert "being told" in web.submit("/notify/", {"text": "One"}, page="/").text
        redis.kill() if how == "gone" else redis.pause()

        began = time.monotonic()
        page = strict.submit("/notify/", {"text": "Two"}, page="/")
        assert page.status_code == 503 and "Two” could not be sent" in page.text
        page = keeping.submit("/notify/", {"text": "Three"}, page="/")
        assert page.status_code == 200 and "told a little later" in page.text
        # CELERY_BROKER_PUBLISH_TIMEOUT is 3 s, for each of the two.
        assert time.monotonic() - began < 2 * 3 + 4
        for web in (keeping, strict):
            began = time.monotonic()
            assert "<td>Three</td>" in web.get("/").text
            assert time.monotonic() - began < 2

        redis.restart() if how == "gone" else redis.resume()
        assert "being told" in strict.submit("/notify/", {"text": "Four"}, page="/").text
        shop.worker("-c", "2")
        command = ("-m", "celeriac", "-A", "storefront", "call", "shop.tasks.send_kept_notices")
        shop.run(sys.executable, *command)

        def told() -> bool:
            page = keeping.get("/").text
            return all(f"<td>{text}</td>" in page for text in ("One", "Three", "Four"))

        eventually(told, saying="the kept notice")
        eventually(lambda: "later" not in keeping.get("/").text)


def test_a_module_that_cannot_be_imported(shop: Example) -> None:
    path = shop.folder / "shop" / "tasks.py"
    source = path.read_text()
    lines = len(source.splitlines())
    for added, error in (
        ("import soup\n", "No module named 'soup'"),
        ("def f(:\n", "SyntaxError"),
        ("1 / 0\n", "ZeroDivisionError"),
    ):
        path.write_text(source + added)
        said = shop.run(*WORKER, ok=False)
        assert error in said
        assert f"{path}" in said and f"line {lines + 1}" in said
        assert "ready." not in said


def test_a_setting_that_is_misspelt(shop: Example) -> None:
    path = shop.folder / "storefront" / "settings.py"
    source = path.read_text()
    for wrong, right in (
        ("CELERY_WORKER_CONCURENCY", "CELERY_WORKER_CONCURRENCY"),
        ("CELERY_BEAT_SHEDULE", "CELERY_BEAT_SCHEDULE"),
        ("CELERY_RESULT_BACKENDS", "CELERY_RESULT_BACKEND"),
    ):
        path.write_text(f"{source}{wrong} = None\n")
        said = shop.run(*WORKER, ok=False)
        assert wrong in said and right in said.replace(wrong, "")
        assert "Traceback" not in said


def test_the_redis_url_is_wrong(shop: Example) -> None:
    shop.environ["REDIS_URL"] = "reddis://:secret@localhost/1"
    said = shop.run(*WORKER, ok=False)
    assert "reddis" in said and "redis" in said.replace("reddis", "")
    assert "secret" not in said and "Traceback" not in said
