"""docs/walkthrough-feedback.md, every command of it, with what it says is printed."""

from __future__ import annotations

import pytest
from tests.support.page import follow
from tests.support.ports import free_port
from tests.support.web import Make

pytestmark = [pytest.mark.service, pytest.mark.timeout(300)]


def test_the_page(example: Make) -> None:
    site, mail, redis = str(free_port()), str(free_port()), str(free_port())
    feedback = example(
        "feedback",
        REDIS_URL=f"redis://localhost:{redis}/0",
        EMAIL_PORT=mail,
        FEEDBACK_SECONDS="1",
        FEEDBACK_RETRY_SECONDS="0.5",
        FEEDBACK_TIME_LIMIT="4",
        PUBLISH_TIMEOUT="1",
    )
    changes = {
        "cd examples/feedback": "cd .",
        "8000": site,
        "1025": mail,
        "6379": redis,
        "redis-cli": f"redis-cli -p {redis}",
        "visitor.py": f"visitor.py --site http://localhost:{site}/",
        "after 20": "after ",
        "after 0": "after ",
        "2.0s": "0.5s",
        "4.0s": "1.0s",
        "60.0s": "4.0s",
    }
    follow("walkthrough-feedback", feedback, changes)
