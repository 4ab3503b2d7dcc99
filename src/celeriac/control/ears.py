"""The ears of a worker: one for celeriac's own commands, one for Celery's where the broker has it.

Owns: ears.  May import: control.
"""

from __future__ import annotations

from typing import Any

from celeriac.control.celery_inbox import CeleryInbox, celery_inbox
from celeriac.control.inbox import Inbox


def ears(worker: Any) -> list[Inbox | CeleryInbox]:
    """Return what listens for one worker."""
    inbox = Inbox(worker)
    second = celery_inbox(inbox, worker)
    return [inbox] if second is None else [inbox, second]
