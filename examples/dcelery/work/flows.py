"""What can be started, from the page and by `manage.py start`: each returns the result to wait for."""

from celeriac import chain, chord, group
from work.priorities import t1, t2, t3
from work.tasks import add, ask_a_slow_server, note, task1, task2, total


def queues():
    """Send a task to each of the two queues."""
    return group(task1.s("this"), task2.s("that"))()


def groups():
    """Run five additions at once."""
    return group(add.s(i, i) for i in range(5))()


def chains():
    """Run (2 + 2) + 4 + 8: `s()` gets the result of the task before it as its first argument."""
    return chain(add.s(2, 2), add.s(4), add.s(8))()


def immutable():
    """Run one after another, each with its own arguments only: `si()` takes no result."""
    return chain(add.si(2, 2), add.si(4, 4), note.si("both are done"))()


def summary():
    """Run additions at once, then add up what they gave."""
    return chord(add.s(i, i) for i in range(5))(total.s())


def rates():
    """Ask six times; the task's rate limit spreads them out."""
    return group(ask_a_slow_server.s(number) for number in range(6))()


def priorities():
    """Send the least urgent first, again and again: they run in another order."""
    return group(
        signature
        for turn in range(2)
        for signature in (
            t2.s(2, 3, message=f"low {turn}").set(priority=1),
            t1.s(2, 3, message=f"middle {turn}").set(priority=5),
            t3.s(2, 3, message=f"high {turn}").set(priority=10),
        )
    )()


FLOWS = {
    flow.__name__: flow for flow in (queues, groups, chains, immutable, summary, rates, priorities)
}
