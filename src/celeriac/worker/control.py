"""Celery's name for what makes commands of a program's own: `from celeriac.worker.control import ...`.

Owns: nothing, it re-exports.  May import: client.
"""

from celeriac.client.panel import Panel, control_command, inspect_command

__all__ = ["Panel", "control_command", "inspect_command"]
