"""The ears of a worker: one for celeriac's own commands, one for Celery's where the broker has it.

Owns: Ears, standing_orders.  Thread rule: as its parts.  May import: control.
"""

from __future__ import annotations

from typing import Any

from celeriac.control.celery_inbox import CeleryInbox, celery_inbox
from celeriac.control.inbox import Inbox


def standing_orders(worker: Any) -> Inbox:
    """Return what has a worker obey pauses and revocations, and hears no command."""
    return Inbox(worker, topics=())


class Ears:
    """All that listens for one worker."""

    name = "control"

    def __init__(self, worker: Any) -> None:
        inbox = Inbox(worker)
        second = celery_inbox(inbox, worker)
        self._ears: list[Inbox | CeleryInbox] = [inbox] if second is None else [inbox, second]

    def start(self) -> None:
        """Begin to listen."""
        for ear in self._ears:
            ear.start()

    def stop(self) -> None:
        """Ask them to end."""
        for ear in self._ears:
            ear.stop()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until they have ended."""
        ended = [ear.join(timeout) for ear in self._ears]  # every one, also where one has not
        return all(ended)
