"""Celery in the fleet: real Celery producers and workers beside celeriac's, on one Redis."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celery
import pytest

from tests.support.fleet import Fleet
from tests.support.project import eventually
from tests.support.redis import RedisServer

pytestmark = [
    pytest.mark.service,
    # Celery and kombu leave their connections to the collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
PATIENCE = 30


@pytest.fixture
def fleet(redis_server: RedisServer, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(redis_server, tmp_path)
    yield made
    made.close()


def test_a_celery_producer_and_a_celeriac_worker(fleet: Fleet) -> None:
    worker = fleet.celeriac_worker()
    add = celery.signature("fleet.add", app=fleet.celery)

    # A result, read by Celery's own AsyncResult.
    assert fleet.send("add", 2, 3).get(timeout=PATIENCE) == 5

    # An error, with its type and text.
    failed = fleet.send("fail", "so it is")
    with pytest.raises(ValueError, match="so it is"):
        failed.get(timeout=PATIENCE)
    assert failed.status == "FAILURE"
    assert "ValueError: so it is" in failed.traceback

    # Not before its time.
    begun = time.time()
    assert fleet.send("add", 1, 1, countdown=1.5).get(timeout=PATIENCE) == 2
    assert time.time() - begun >= 1.5

    # Not after its end.
    late = fleet.send("side", 99, expires=dt.datetime.now(dt.UTC) - dt.timedelta(seconds=5))
    with pytest.raises(Exception, match="expired"):
        late.get(timeout=PATIENCE)
    assert late.status == "REVOKED"
    assert fleet.notes() == []

    # Retries, links, chains and headers.
    assert fleet.send("flaky", 2).get(timeout=PATIENCE) == 2
    assert [text for _, text in fleet.notes("flaky")] == ["0", "1", "2"]
    chain = celery.chain(add.clone((1, 2)), add.clone((10,)), add.clone((100,)))
    chained = chain.apply_async()
    assert chained.get(timeout=PATIENCE) == 113
    assert chained.parent.get(timeout=PATIENCE) == 13
    linked = fleet.send(
        "add", 1, 1, link=celery.signature("fleet.side", (7,), app=fleet.celery, immutable=True)
    )
    assert linked.get(timeout=PATIENCE) == 2
    eventually(lambda: ["celeriac", "7"] in fleet.notes(), saying="the link")
    fleet.send("fail", "x", link_error=celery.signature("fleet.told", app=fleet.celery))
    eventually(lambda: fleet.notes("told"), saying="the errback")
    seen = fleet.send(
        "headers", headers={"mine": "kept"}, root_id="the-root", parent_id="the-parent"
    ).get(timeout=PATIENCE)
    assert (seen["side"], seen["mine"]) == ("celeriac", "kept")
    assert (seen["root_id"], seen["parent_id"]) == ("the-root", "the-parent")

    # A group, whose results Celery joins by itself.
    group = celery.group(add.clone((n, n)) for n in range(10)).apply_async()
    assert group.get(timeout=PATIENCE) == [2 * n for n in range(10)]

    fleet.drained()
    assert worker.popen.poll() is None


def test_a_pickle_is_refused_and_the_log_says_so(fleet: Fleet) -> None:
    worker = fleet.celeriac_worker()
    refused = fleet.send("add", 1, 2, serializer="pickle")
    eventually(lambda: "x-python-serialize" in worker.output(), saying="a word about the pickle")
    with pytest.raises(Exception, match="x-python-serialize"):
        refused.get(timeout=PATIENCE)
    assert fleet.send("add", 1, 2).get(timeout=PATIENCE) == 3
    (buried,) = fleet.celeriac.broker.buried(limit=10)
    assert buried.envelope.id == refused.id
    fleet.drained()


def test_the_more_urgent_first_and_old_protocols_too(fleet: Fleet) -> None:
    for priority in (9, 6, 3, 0):
        fleet.send("side", priority, priority=priority)
    fleet.celery.conf.task_protocol = 1
    old = fleet.send("add", 20, 1)
    fleet.celeriac_worker("-P", "solo")
    assert old.get(timeout=PATIENCE) == 21
    fleet.drained()
    assert [text for _, text in fleet.notes()] == ["0", "3", "6", "9"]


def test_a_celeriac_producer_and_a_celery_worker(redis_server: RedisServer, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"task_routes": {"fleet.*": {"wire": "celery"}}}
    fleet = Fleet(redis_server, tmp_path)
    fleet.celeriac.conf.update(settings)
    try:
        fleet.celery_worker()
        send = fleet.celeriac.send_task
        assert send("fleet.add", (2, 3)).get(timeout=PATIENCE) == 5
        failed = send("fleet.fail", ("no",))
        with pytest.raises(ValueError, match="no"):
            failed.get(timeout=PATIENCE)
        begun = time.time()
        assert send("fleet.add", (1, 1), countdown=1.5).get(timeout=PATIENCE) == 2
        assert time.time() - begun >= 1.5
        late = send("fleet.side", (99,), expires=-5)
        eventually(lambda: late.state == "REVOKED", saying="an expired task")
        assert send("fleet.flaky", (2,)).get(timeout=PATIENCE) == 2
        seen = send("fleet.headers", headers={"mine": "kept"}).get(timeout=PATIENCE)
        assert (seen["side"], seen["mine"]) == ("celery", "kept")
        linked = send(
            "fleet.add", (1, 1), link=fleet.celeriac.signature("fleet.side", (7,), immutable=True)
        )
        assert linked.get(timeout=PATIENCE) == 2
        eventually(lambda: ["celery", "7"] in fleet.notes(), saying="the link")
        fleet.drained()
    finally:
        fleet.close()


def test_a_queue_may_be_celerys(redis_server: RedisServer, tmp_path: Path) -> None:
    fleet = Fleet(redis_server, tmp_path)
    fleet.celeriac.conf.task_queues = {"celery_side": {"wire": "celery"}, "ours": {}}
    try:
        for queue in ("celery_side", "ours"):
            fleet.celeriac.send_task("fleet.side", (1,), queue=queue)
        assert fleet.client.llen("celery_side") == 1
        assert fleet.client.llen("ours") == 0
        raw = json.loads(fleet.client.lindex("celery_side", 0))
        assert raw["properties"]["priority"] == 0  # as a Celery producer that says nothing
        assert raw["headers"]["task"] == "fleet.side"
    finally:
        fleet.close()


def test_both_kinds_of_worker_share_a_queue_and_a_kill_loses_nothing(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    fleet = Fleet(redis_server, tmp_path, worker_lease=4.0)
    try:
        _share_and_kill(fleet)
    finally:
        fleet.close()


def _share_and_kill(fleet: Fleet) -> None:
    fleet.celery_worker("--prefetch-multiplier", "1")
    ours = fleet.celeriac_worker("-P", "prefork")
    count, sent = 120, []
    for first in (0, count // 2):
        done = len(fleet.notes())
        # Anew for each kill: while a worker starts, Celery's may have run all there was.
        sent += [fleet.send("slow", n, 0.05) for n in range(first, first + count // 2)]
        eventually(lambda done=done: len(fleet.notes()) > done + 10, saying="some progress")
        ours.kill_group()
        ours = fleet.celeriac_worker("-P", "prefork")
    results = [one.get(timeout=90) for one in sent]
    assert results == list(range(count))
    sides = {side for side, _ in fleet.notes()}
    assert sides == {"celery", "celeriac"}
    assert {int(text) for _, text in fleet.notes()} == set(range(count))
    fleet.drained()


def test_results_are_where_celerys_docs_say(fleet: Fleet) -> None:
    fleet.celeriac_worker()
    result = fleet.send("add", 4, 5)
    assert result.get(timeout=PATIENCE) == 9
    printed = subprocess.run(
        ["redis-cli", "-p", str(fleet.server.port), "GET", f"celery-task-meta-{result.id}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    meta = json.loads(printed.stdout)
    assert (meta["status"], meta["result"], meta["task_id"]) == ("SUCCESS", 9, result.id)
    assert {"traceback", "children", "date_done"} <= set(meta)
    assert 0 < fleet.client.ttl(f"celery-task-meta-{result.id}") <= 86_400


@pytest.mark.parametrize("mates", [False, True])
def test_celerys_chords(fleet: Fleet, mates: bool) -> None:
    fleet.celeriac_worker()
    if mates:
        fleet.celery_worker()
    add = celery.signature("fleet.add", app=fleet.celery)
    total = celery.signature("fleet.total", app=fleet.celery)
    fail = celery.signature("fleet.fail", ("a part",), app=fleet.celery)
    chord = celery.chord([add.clone((n, n)) for n in range(12)], app=fleet.celery)(total)
    assert chord.get(timeout=PATIENCE) == sum(2 * n for n in range(12))
    more = celery.chord([add.clone((n, 1)) for n in range(3)], app=fleet.celery)(
        total | add.clone((10,))
    )
    assert more.get(timeout=PATIENCE) == 16
    failed = celery.chord([add.clone((1, 1)), fail], app=fleet.celery)(total)
    with pytest.raises(celery.exceptions.ChordError, match="a part"):
        fleet.celery.AsyncResult(failed.id).get(timeout=PATIENCE)
    many = celery.chord([add.clone((1, 1))] * 2, app=fleet.celery)(celery.group(total, total))
    assert many.get(timeout=PATIENCE) == [4, 4]
    fleet.drained()
    left = list(fleet.client.scan_iter("celery-taskset-meta-*"))
    assert mates or not left
    assert all(fleet.client.ttl(key) > 0 for key in left)
