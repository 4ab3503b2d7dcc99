"""Tasks, found by `related_name`."""

from celeriac import shared_task


@shared_task
def post(text):
    """Post a letter."""
    return f"posted {text}"
