"""Task loggers: every record written in a task knows which task it was."""

from __future__ import annotations

import contextlib
import contextvars
import logging
from collections.abc import Iterator

import pytest

from celeriac.client.context import Context
from celeriac.client.current import pop_task, push_task
from celeriac.kernel.message import Envelope
from celeriac.kernel.wire import Headers
from celeriac.utils.log import (
    TaskFilter,
    TaskFormatter,
    get_logger,
    get_task_logger,
    is_task_logger,
)

FORMAT = "plain %(message)s"
TASK_FORMAT = "%(task_name)s[%(task_id)s]: %(message)s"


class Named:
    """What a formatter reads of a task."""

    name = "proj.add"


@contextlib.contextmanager
def running(task_id: str = "id-1") -> Iterator[None]:
    token = push_task(Named(), Context(Headers("proj.add", task_id), Envelope(task_id, "q", b"")))
    try:
        yield
    finally:
        pop_task(token)


def record(name: str, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 1, "hello %s", ("you",), None)


def test_a_task_logger_keeps_its_name_and_gets_our_parent() -> None:
    logger = get_task_logger("test_log.one")
    assert logger.name == "test_log.one"
    assert logger.parent is logging.getLogger("celeriac.task")
    assert get_task_logger("test_log.one") is logger
    assert logger is logging.getLogger("test_log.one")


def test_a_child_of_a_task_logger_is_one() -> None:
    parent = get_task_logger("test_log.two")
    child = get_task_logger("test_log.two.inner")
    assert child.parent is parent
    assert is_task_logger(child)
    assert not is_task_logger(get_logger("test_log.three"))


@pytest.mark.parametrize("name", ["celeriac", "celeriac.task"])
def test_our_own_names_are_refused(name: str) -> None:
    with pytest.raises(RuntimeError):
        get_task_logger(name)


def test_formats_inside_a_task() -> None:
    get_task_logger("test_log.four")
    formatter = TaskFormatter(FORMAT, TASK_FORMAT)
    with running():
        assert formatter.format(record("test_log.four")) == "proj.add[id-1]: hello you"
        assert formatter.format(record("other")) == "plain hello you"


def test_formats_outside() -> None:
    get_task_logger("test_log.five")
    formatter = TaskFormatter(FORMAT, TASK_FORMAT)
    assert formatter.format(record("test_log.five")) == "???[???]: hello you"


def test_the_worker_s_own_lines_are_plain() -> None:
    assert TaskFormatter(FORMAT, TASK_FORMAT).format(record("celeriac.task")) == "plain hello you"


def test_every_record_has_the_task() -> None:
    formatter = TaskFormatter("%(task_id)s %(message)s", TASK_FORMAT)
    with running("id-2"):
        assert formatter.format(record("anybody")) == "id-2 hello you"
    assert formatter.format(record("anybody")) == "??? hello you"


def test_filter_keeps_what_is_there() -> None:
    given = record("anybody")
    with running("id-3"):
        assert TaskFilter().filter(given)
    # A queue between the task and the handler: the task is over when the record is written.
    assert TaskFilter().filter(given)
    assert given.__dict__["task_id"] == "id-3"
    assert given.__dict__["task_name"] == "proj.add"


def test_contexts_do_not_mix() -> None:
    formatter = TaskFormatter("%(task_id)s", None)
    with running("outer"):
        contextvars.Context().run(lambda: None)
        empty = contextvars.Context().run(formatter.format, record("x"))
        assert empty == "???"
        assert formatter.format(record("x")) == "outer"


def test_color_is_by_level_and_off_by_default() -> None:
    assert "\x1b" not in TaskFormatter(FORMAT).format(record("x", logging.ERROR))
    colored = TaskFormatter(FORMAT, use_color=True)
    assert colored.format(record("x", logging.ERROR)).startswith("\x1b[31m")
    assert "\x1b" not in colored.format(record("x", logging.INFO))


def test_default_format_is_that_of_celery() -> None:
    text = TaskFormatter().format(record("x"))
    assert text.endswith(": INFO/MainProcess] hello you")
    assert text.startswith("[")
