"""An app of Celery's that the tests close says nothing to a server that has ended."""

from __future__ import annotations

import gc
import logging
from pathlib import Path

import celery
import pytest
from tests.support.celery import close_celery
from tests.support.project import eventually
from tests.support.redis import RedisServer

pytestmark = [pytest.mark.service, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def test_a_result_is_collected_after_the_servers_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer(tmp_path) as server:
        app = celery.Celery("ends", broker=server.url(), backend=server.url(), set_as_current=False)
        app.conf.broker_transport_options = {"max_retries": 1}
        result = app.send_task("nobody.runs", (1,))
        with pytest.raises(celery.exceptions.TimeoutError):
            result.get(timeout=0.1)
        close_celery(app)
        # No connection is left, but the server's own.
        eventually(lambda: len(server.client.client_list()) == 1, saying="an end of connections")
    with caplog.at_level(logging.DEBUG):
        del result
        gc.collect()
    assert "celery.backends.redis" not in {record.name for record in caplog.records}
