"""Tasks of two queues, parts of workflows, and one that must not run too often."""

import time

from celeriac import shared_task


@shared_task
def task1(name):
    """Run on queue1: the settings say so."""
    return f"{name} by task1"


@shared_task
def task2(name):
    """Run on queue2."""
    return f"{name} by task2"


@shared_task
def add(x, y):
    return x + y


@shared_task
def total(numbers):
    return sum(numbers)


@shared_task
def note(text):
    """Take no result of a task before it: in a chain it is called by `si()`."""
    return text


@shared_task(rate_limit="2/s")
def ask_a_slow_server(number):
    """Begin no more than twice a second on each worker, as the server's owner demands."""
    return number, time.time()
