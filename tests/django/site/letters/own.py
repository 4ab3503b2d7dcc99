"""Tasks of Django's own API."""

try:
    from django.tasks import task
except ImportError:  # before Django 6
    from django_tasks import task


@task()
def double(x):
    """Double."""
    return 2 * x


@task(takes_context=True, priority=50)
def who(context, greeting):
    """Say which attempt it is."""
    return [greeting, context.attempt, context.task_result.id]


@task
async def later(text):
    """Be a coroutine."""
    return f"later: {text}"


@task
def wrong():
    """Fail."""
    raise KeyError("nothing")


@task
def cannot():
    """Return what no result can hold."""
    return object()
