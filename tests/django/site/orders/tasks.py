"""Tasks, found by autodiscover_tasks()."""

import asyncio
import os
import threading

from django.db import connection, transaction

from celeriac import shared_task
from celeriac.result import AsyncResult
from orders.models import Order


@shared_task
def ship(pk):
    """Ship an order."""
    Order.objects.filter(pk=pk).update(state="shipped")
    return Order.objects.get(pk=pk).name


@shared_task
def ship_all(order):
    """Ship what a reference leads to."""
    order.state = "shipped"
    order.save()
    return [order.__class__.__name__, order.name, isinstance(order, Order)]


@shared_task
async def count():
    """Use the ORM of coroutines."""
    return await Order.objects.acount()


@shared_task
def state_of_connection():
    """Say which connection this is, whether it was open before, and how many queries it knows."""
    was_open = connection.connection is not None
    Order.objects.count()
    return {
        "was_open": was_open,
        "connection": id(connection.connection),
        "pid": os.getpid(),
        "queries": len(connection.queries_log),
        "thread": threading.get_ident(),
    }


@shared_task
def leave_a_transaction(kind):
    """Write, and end without an end of the transaction."""
    if kind == "atomic":
        transaction.atomic().__enter__()
    else:
        connection.set_autocommit(False)
    Order.objects.create(name="half done")


@shared_task
def fail(text):
    """Fail."""
    raise ValueError(text)


@shared_task
def add(x, y):
    """Add."""
    return x + y


@shared_task
async def read_slowly(seconds):
    """Read row by row, from a cursor that stays open meanwhile."""
    found = []
    async for order in Order.objects.order_by("pk").aiterator(chunk_size=1):
        found.append(order.name)
        await asyncio.sleep(seconds)
    return found


@shared_task
def look_at_results_while_reading():
    """Ask the result store in the middle of what this thread reads."""
    found = []
    for order in Order.objects.order_by("pk").iterator(chunk_size=1):
        found.append(order.name)
        AsyncResult("unknown").state
    return found
