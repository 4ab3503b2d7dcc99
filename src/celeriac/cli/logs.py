"""Logging of the commands: one handler on the root logger, and only where there is none.

Owns: setup_logging, read_level.  May import: client, utils.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from celeriac.cli.nodes import expand
from celeriac.client import signals
from celeriac.utils.log import TaskFormatter

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "FATAL")


def read_level(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Return the number of a level that is given by its name, in any case, or by its number."""
    if value is None:
        return None
    text = value.upper()
    if text.isdigit():
        return int(text)
    if text not in LEVELS:
        raise click.BadParameter(f"{value!r} is not one of {', '.join(LEVELS)}", ctx, param)
    return int(getattr(logging, text))


def setup_logging(
    app: Celeriac,
    *,
    level: int | None,
    logfile: str | None = None,
    node: str | None = None,
    color: bool = True,
) -> bool:
    """Write logs to the terminal or to `logfile`, unless the program has its own logging.

    A root logger that has handlers is left alone: only the level that was asked for is then set,
    on celeriac's own loggers.  A receiver of the signal `setup_logging` does it all instead.

    :param level: None means WARNING here, and what the program says where it has logging.
    :param node: the worker's name, for `%n` and `%h` in `logfile`.
    :param color: colours are welcome; used on a terminal only.
    :return: whether a handler was installed.
    """
    told: dict[str, Any] = {
        "loglevel": logging.WARNING if level is None else level,
        "logfile": logfile,
        "format": app.conf.worker_log_format,
        "colorize": color,
    }
    if signals.setup_logging.send(sender=None, **told):
        return False  # whoever listens has set it up
    root = logging.getLogger()
    if root.handlers and logfile is None:
        if level is not None:
            logging.getLogger("celeriac").setLevel(level)
        return False
    logging.captureWarnings(True)
    handler = _handler(logfile, node)
    conf = app.conf
    wanted = conf.worker_log_color
    on_terminal = logfile is None and sys.stderr.isatty()
    handler.setFormatter(
        TaskFormatter(
            conf.worker_log_format,
            conf.worker_task_log_format,
            use_color=color and (on_terminal if wanted is None else bool(wanted)),
        )
    )
    root.addHandler(handler)
    root.setLevel(logging.WARNING if level is None else level)
    signals.after_setup_logger.send(sender=None, logger=root, **told)
    told["format"] = conf.worker_task_log_format
    tasks = logging.getLogger("celeriac.task")
    signals.after_setup_task_logger.send(sender=None, logger=tasks, **told)
    return True


def _handler(logfile: str | None, node: str | None) -> logging.Handler:
    if logfile is None:
        return logging.StreamHandler(sys.stderr)
    path = Path(expand(logfile, node))
    try:
        return logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}", param_hint="--logfile") from None
