"""examples/feedback: mails by a worker on Redis, with a real mail server and a real browser's requests."""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from collections.abc import Iterator

import pytest
from tests.support import browser
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
        FEEDBACK_RETRY_SECONDS="0.1",
    )
    made.migrate()
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
    assert time.monotonic() - began < 4
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


def test_what_a_visitor_sees(feedback: Example) -> None:
    web = feedback.serve()
    page = browser.dom(web.url)
    assert "What do you think of us?" in page and "By a worker" in page
    picture = feedback.folder / "page.png"
    browser.screenshot(f"{web.url}/success/", picture, size=(600, 400))
    assert picture.stat().st_size > 5_000
    wrong = web.submit("/", {"email": "nobody", "message": "x", "key": str(uuid.uuid4())})
    assert wrong.status_code == 200 and "Enter a valid email address" in wrong.text


def test_a_mail_server_that_fails(feedback: Example, mail: MailServer) -> None:
    feedback.environ["FEEDBACK_SECONDS"] = "0"
    worker = feedback.worker("-c", "2")
    web = feedback.serve()

    # It says no three times: the pauses are 0.1, 0.2 and 0.4 s.
    mail.answers = ["451 busy", "451 busy", "421 closing"]
    began = time.monotonic()
    web.submit("/", FORM | {"key": str(uuid.uuid4())})
    eventually(lambda: mail.mails, saying="the mail")
    assert time.monotonic() - began >= 0.7
    assert mail.refused == 3

    # It is away, and comes back.
    mail.stop()
    web.submit("/", FORM | {"key": str(uuid.uuid4())})
    eventually(lambda: "Connection refused" in worker.output(), saying="a failed attempt")
    mail.start()
    eventually(lambda: len(mail.mails) == 2, saying="the second mail")

    # It says no for good: after six attempts the task has failed.
    mail.answers = ["550 no such mailbox"] * 20
    web.submit("/", FORM | {"key": str(uuid.uuid4())})
    eventually(lambda: mail.refused == 3 + 6, saying="six attempts")
    eventually(lambda: "raised unexpected" in worker.output(), saying="a failure")
    assert len(mail.mails) == 2
    assert worker.stop() == 0
    assert mail.refused == 3 + 6


def test_no_mail_twice(feedback: Example, mail: MailServer, redis_server: RedisServer) -> None:
    worker = feedback.worker("-c", "2")
    web = feedback.serve()

    # The button pressed twice: two tasks, one mail.
    web.submit("/", FORM)
    web.submit("/", FORM)
    eventually(lambda: len(mail.mails) == 1)
    eventually(lambda: worker.output().count("received") == 2, saying="both tasks")
    eventually(lambda: "is mailed" in worker.output())

    # A third time, long after the first is out.
    web.submit("/", FORM)
    eventually(lambda: "was sent before" in worker.output(), saying="a task that sends nothing")
    assert len(mail.mails) == 1


def test_a_process_that_dies_and_one_that_hangs(feedback: Example, mail: MailServer) -> None:
    feedback.environ |= {"FEEDBACK_SECONDS": "0", "FEEDBACK_TIME_LIMIT": "3"}
    worker = feedback.worker("-c", "1")
    web = feedback.serve()

    # Killed in the middle: the task is handed out again, and waits for the end of the claim.
    mail.slow = 60
    web.submit("/", FORM)
    eventually(lambda: mail.talking == 1, saying="a mail on its way")
    mail.slow = 0
    os.kill(worker.children()[0], signal.SIGKILL)
    eventually(lambda: len(mail.mails) == 1, saying="the mail")

    # A server that takes for ever: the task ends at its time limit, and the claim with it.
    mail.slow = 60
    key = str(uuid.uuid4())
    web.submit("/", FORM | {"key": key})
    eventually(lambda: "TimeLimitExceeded" in worker.output(), saying="the time limit")
    mail.slow = 0
    web.submit("/", FORM | {"key": key})
    eventually(lambda: len(mail.mails) == 2, within=10, saying="the other mail")
    assert [sent["Message-ID"] for sent in mail.mails] == [
        f"<{one}@feedback.example.com>" for one in (FORM["key"], key)
    ]
