"""What a worker says of itself before it starts: Celery's banner, passwords hidden.

Owns: banner, shown_url.  May import: kernel.
"""

from __future__ import annotations

import platform
import time
from typing import TYPE_CHECKING, Any

from celeriac.kernel.redact import redact_url

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

WIDTH = 13
"""Columns of the labels."""


def shown_url(url: str | None) -> str:
    """Return a URL fit to be shown: without its password; "disabled" where there is none."""
    return redact_url(url) if url else "disabled"


def _queues(queues: list[Any]) -> list[str]:
    width = max((len(queue.name) for queue in queues), default=0)
    return [
        f".> {queue.name:<{width}}  exchange={queue.exchange}({queue.exchange_type}) key={queue.routing_key}"
        for queue in queues
    ]


def banner(app: Celeriac, worker: Any, *, show_tasks: bool) -> str:
    """Return the banner of a worker that is about to start.

    :param show_tasks: list the tasks too, as Celery does from INFO on.
    """
    from celeriac import __version__

    settings = {
        "app": f"{app.main or '__main__'}:{id(app):#x}",
        "transport": shown_url(app.broker_url),
        "results": shown_url(app.backend_url),
        "concurrency": f"{worker.concurrency} ({worker.pool_name})",
    }
    lines = [
        "",
        f" -------------- {worker.hostname} v{__version__} (celeriac)",
        f"--- ***** ----- Python {platform.python_version()} on {platform.platform()}",
        f"-- ******* ---- {time.strftime('%Y-%m-%d %H:%M:%S')}",
        "",
        "[config]",
        *(f".> {name + ':':<{WIDTH}}{value}" for name, value in settings.items()),
        "",
        "[queues]",
        *_queues(list(worker.queues)),
    ]
    if show_tasks:
        names = sorted(app.tasks.regular())
        lines += ["", "[tasks]", *(f"  . {name}" for name in names or ["(none)"])]
    return "\n".join([*lines, ""])
