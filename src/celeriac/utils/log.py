"""Task loggers, and formatters that know which task a record was written in.

Owns: get_task_logger, get_logger, TaskFilter, TaskFormatter.  May import: client.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from celeriac.client.current import get_current_request, get_current_task

OUTSIDE = "???"
"""`task_id` and `task_name` of a record that no task wrote."""

LOG_FORMAT = "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"
"""Celery's line; the setting `worker_log_format` replaces it."""

TASK_LOG_FORMAT = (
    "[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s"
)
"""Celery's line for task loggers; the setting `worker_task_log_format` replaces it."""

COLORS: Mapping[int, str] = {
    logging.DEBUG: "\x1b[34m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[35m",
}
_RESET = "\x1b[0m"

task_logger = logging.getLogger("celeriac.task")
"""The parent of every task logger."""

_RESERVED = frozenset({"celeriac", "celeriac.task"})


def get_logger(name: str) -> logging.Logger:
    """Return the logger of that name."""
    return logging.getLogger(name)


def get_task_logger(name: str) -> logging.Logger:
    """Return the logger of that name as a child of `celeriac.task`.

    Its records are written in `worker_task_log_format`, with the task's name and id.  The name
    stays as it is, as in Celery, so that `caplog` and a logging configuration find it.

    :raises RuntimeError: the name is one of celeriac's own.
    """
    if name in _RESERVED:
        raise RuntimeError(f"the logger name {name!r} is celeriac's own: use the module's name")
    logger = logging.getLogger(name)
    if not is_task_logger(logger):
        logger.parent = task_logger
    return logger


def is_task_logger(logger: logging.Logger) -> bool:
    """Return whether a logger is `celeriac.task` or below it."""
    node: logging.Logger | None = logger
    while node is not None:
        if node is task_logger:
            return True
        node = node.parent
    return False


def add_task(record: logging.LogRecord) -> None:
    """Give a record `task_id` and `task_name`: those of the running task, or `???`."""
    if hasattr(record, "task_id") and hasattr(record, "task_name"):
        return
    request = get_current_request()
    record.task_id = request.id if request is not None else OUTSIDE
    record.task_name = get_current_task().name if request is not None else OUTSIDE


class TaskFilter(logging.Filter):
    """Lets every record pass and gives it `task_id` and `task_name`.

    For a handler of a program's own, whose format names them.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the two and let the record pass."""
        add_task(record)
        return True


class TaskFormatter(logging.Formatter):
    """Writes a task logger's records in one format and all others in another.

    :param fmt: for all others; may use `task_id` and `task_name` too.
    :param task_fmt: for loggers below `celeriac.task`.
    :param use_color: colour lines by their level.
    """

    def __init__(
        self,
        fmt: str | None = None,
        task_fmt: str | None = None,
        datefmt: str | None = None,
        use_color: bool = False,
    ) -> None:
        super().__init__(fmt or LOG_FORMAT, datefmt)
        self._task = logging.Formatter(task_fmt or TASK_LOG_FORMAT, datefmt)
        self.use_color = use_color

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text."""
        add_task(record)
        # The worker writes of tasks to `celeriac.task` itself, and names them in the message.
        own = record.name == task_logger.name
        if not own and is_task_logger(logging.getLogger(record.name)):
            text = self._task.format(record)
        else:
            text = super().format(record)
        color = COLORS.get(record.levelno) if self.use_color else None
        return f"{color}{text}{_RESET}" if color else text
