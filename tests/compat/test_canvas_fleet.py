"""Workflows between Celery and celeriac on one Redis: saved groups, packed chords, errbacks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celery
import celery.result
import pytest

import celeriac.result
from celeriac.canvas import group
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

THREE = """
@app.task(name="fleet.three")
def three(request, error, traceback):
    note("three", f"{request.id} {error!r} {'so it is' in traceback}")
"""


@pytest.fixture
def fleet(redis_server: RedisServer, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(redis_server, tmp_path, accept_content=["json", "msgpack"])
    for side in ("celery", "celeriac"):
        path = tmp_path / f"{side}_side.py"
        path.write_text(path.read_text() + THREE)
    yield made
    made.celery.backend._cache.clear()
    made.close()


def test_saved_groups_are_read_on_both_sides(fleet: Fleet) -> None:
    fleet.celeriac_worker()
    mine = group(fleet.celeriac.signature("fleet.add", (n, n)) for n in range(3)).apply_async()
    mine.save()
    theirs = celery.result.GroupResult.restore(mine.id, app=fleet.celery)
    assert [one.id for one in theirs] == [one.id for one in mine]
    assert theirs.get(timeout=PATIENCE) == [0, 2, 4]

    sent = celery.group(
        celery.signature("fleet.add", (n, 1), app=fleet.celery) for n in range(3)
    ).apply_async()
    sent.save()
    found: Any = celeriac.result.GroupResult.restore(sent.id, app=fleet.celeriac)
    assert [one.id for one in found] == [one.id for one in sent]
    assert found.get(timeout=PATIENCE) == [1, 2, 3]

    # Either side may save again and delete what the other has saved.
    found.save()
    assert celery.result.GroupResult.restore(sent.id, app=fleet.celery).id == sent.id
    found.delete()
    assert celery.result.GroupResult.restore(sent.id, app=fleet.celery) is None
    theirs.save()
    theirs.delete()
    assert celeriac.result.GroupResult.restore(mine.id, app=fleet.celeriac) is None


@pytest.mark.parametrize(
    "packed",
    [{"compression": "gzip"}, {"serializer": "msgpack"}, {"serializer": "msgpack", "compression": "zlib"}],
    ids=str,
)  # fmt: skip
def test_a_packed_chord_of_celerys(fleet: Fleet, packed: dict[str, str]) -> None:
    fleet.celeriac_worker()
    add = celery.signature("fleet.add", app=fleet.celery).set(**packed)
    total = celery.signature("fleet.total", app=fleet.celery).set(**packed)
    chord = celery.chord([add.clone((n, n)) for n in range(5)], app=fleet.celery)(total)
    assert chord.get(timeout=PATIENCE) == 20
    fleet.drained()


def test_an_errback_of_three_arguments_in_celerys_message(fleet: Fleet) -> None:
    fleet.celeriac_worker()
    told = celery.signature("fleet.three", app=fleet.celery)
    failed = fleet.send("fail", "so it is", link_error=told)
    [[side, said]] = eventually(lambda: fleet.notes("three"), saying="the errback")
    assert (side, said) == ("celeriac", f"{failed.id} ValueError('so it is') True")
    fleet.drained()
