"""Small things that users import by Celery's names; `celery.utils.X` is `celeriac.utils.X`."""

from celeriac.kernel.ids import uuid

__all__ = ["uuid"]
