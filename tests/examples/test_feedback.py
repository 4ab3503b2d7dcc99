"""examples/feedback: mails by a worker on Redis, with a real mail server and a real browser's requests."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator

import pytest
from tests.support.project import eventually
from tests.support.redis import RedisServer
from tests.support.smtp import MailServer
from tests.support.web import Example, Make

pytestmark = pytest.mark.service


@pytest.fixture
def mail() -> Iterator[MailServer]:
    server = MailServer().start()
    yield server
    server.stop()


@pytest.fixture
def feedback(example: Make, redis_server: RedisServer, mail: MailServer) -> Example:
    made = example(
        "feedback",
        REDIS_URL=redis_server.url(),
        EMAIL_PORT=str(mail.port),
        FEEDBACK_SECONDS="1",
        FEEDBACK_RETRY_SECONDS="0.2",
    )
    made.manage("migrate", "-v0")
    return made


FORM = {"email": "ann@example.com", "message": "Very good soup", "key": str(uuid.UUID(int=7))}


def test_by_a_worker(feedback: Example, mail: MailServer, redis_server: RedisServer) -> None:
    web = feedback.serve(FEEDBACK_SECONDS="5")
    feedback.worker("-c", "2")

    began = time.monotonic()
    page = web.submit("/sync/", FORM)
    assert "Thank you" in page.text
    assert time.monotonic() - began >= 5
    assert len(mail.mails) == 1

    began = time.monotonic()
    page = web.submit("/", FORM)
    assert time.monotonic() - began < 3
    assert page.url.path == "/success/"
    eventually(lambda: len(mail.mails) == 2, saying="the mail")
    received = mail.mails[-1]
    assert received["To"] == "ann@example.com"
    assert "Very good soup" in received.get_payload()
    (key,) = eventually(lambda: redis_server.cli("KEYS", "celery-task-meta-*"))
    meta = json.loads(redis_server.cli("GET", key))
    assert set(meta) == {"status", "result", "traceback", "children", "date_done", "task_id"}
    assert (meta["status"], meta["result"], meta["traceback"]) == ("SUCCESS", "sent", None)
    assert key.decode().endswith(meta["task_id"])
