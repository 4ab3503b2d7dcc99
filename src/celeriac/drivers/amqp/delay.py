"""Delays that pass in the broker: a ladder of queues, in Celery's layout, so that both share it.

Rung n keeps a message 2**n seconds.  A delay is written as 28 bits in the routing key: where a bit
is 1 the message waits on that rung, where it is 0 it passes it by; below the last rung it goes to
the exchange `celery_delayed_delivery`, to which every queue that may be meant is bound.

Owns: route, ladder, bindings, through, rung, SHORTEST, LONGEST.  May import: kernel, drivers.amqp.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from celeriac.drivers.amqp.steps import Refused, Step
from celeriac.kernel.errors import BrokerRejected

RUNGS = 28
DELIVERY = "celery_delayed_delivery"
SHORTEST = 1.0
"""Seconds: what is due sooner waits in its worker."""
WAY = 0.3
"""Seconds that a message may need from rung to rung on a busy server: it leaves so much earlier, and
waits the rest in its worker."""
LONGEST = (1 << RUNGS) - 1
"""Seconds, eight and a half years; what is due later passes the ladder again."""
_ANY = "*." * RUNGS


def rung(level: int) -> str:
    """Return the name of a rung's exchange and queue."""
    return f"celery_delayed_{level}"


def route(seconds: float, queue: str) -> tuple[str, str]:
    """Return the exchange and the routing key for a delay of whole seconds, rounded down after `WAY`.

    :param queue: where it goes then; `exchange.key` for what goes through an exchange.

    :raises BrokerRejected: the queue's name is too long for a routing key.
    """
    whole = max(1, min(LONGEST, int(seconds - WAY)))
    bits = ".".join(format(whole, f"0{RUNGS}b"))
    key = f"{bits}.{queue}"
    if len(key.encode()) > 255:
        raise BrokerRejected(
            f"queue {queue!r} cannot take delayed tasks: its name is longer than "
            f"{255 - 2 * RUNGS} bytes"
        )
    return rung(whole.bit_length() - 1), key


def ladder(queue_type: str) -> Generator[Step, Any, None]:
    """Yield the steps that build the ladder; one that is there is used as it is."""
    for level in range(RUNGS - 1, -1, -1):
        name = rung(level)
        yield _exchange(name)
        arguments: dict[str, Any] = {
            "x-queue-type": queue_type,
            "x-overflow": "reject-publish",
            "x-message-ttl": (1 << level) * 1000,
            "x-dead-letter-exchange": rung(level - 1) if level else DELIVERY,
        }
        if queue_type == "quorum":
            arguments["x-dead-letter-strategy"] = "at-least-once"
        try:
            yield _queue(name, arguments)
        except Refused as refused:
            if refused.code != 406:
                raise
            yield _passive(name)  # of the other type: a fleet that was here before decides
        yield _bind(name, name, "*." * (RUNGS - 1 - level) + "1.#")
    yield _exchange(DELIVERY)
    for level in range(RUNGS - 1, -1, -1):
        below = rung(level - 1) if level else DELIVERY
        yield _pass_by(rung(level), below, "*." * (RUNGS - 1 - level) + "0.#")


def bindings(queues: Sequence[str]) -> Generator[Step, Any, None]:
    """Yield the steps that lead the end of the ladder to queues.

    With all 28 bits counted out: a looser pattern would also match another queue, whose name ends
    in a dot and this one's.
    """
    for queue in queues:
        if len((_ANY + queue).encode()) <= 255:
            yield _bind(queue, DELIVERY, _ANY + queue)


def through(
    exchange: str, kind: str, queues: Sequence[tuple[str, str]]
) -> Generator[Step, Any, None]:
    """Yield the steps that lead the end of the ladder to where an exchange leads.

    :param kind: its type.
    :param queues: (queue, binding key) of what the settings bind to it.
    """
    if kind in ("fanout", "headers"):
        yield _pass_by(DELIVERY, exchange, f"{_ANY}{exchange}.#")
        return
    # Its own bindings would not know a key with a delay before it: past the exchange.
    for queue, key in queues:
        yield _bind(queue, DELIVERY, f"{_ANY}{exchange}.{key}")


def _exchange(name: str) -> Step:
    return lambda channel, answer: channel.exchange_declare(
        name, exchange_type="topic", durable=True, callback=answer
    )


def _queue(name: str, arguments: dict[str, Any]) -> Step:
    return lambda channel, answer: channel.queue_declare(
        name, durable=True, arguments=arguments, callback=answer
    )


def _passive(name: str) -> Step:
    return lambda channel, answer: channel.queue_declare(name, passive=True, callback=answer)


def _bind(queue: str, exchange: str, key: str) -> Step:
    return lambda channel, answer: channel.queue_bind(
        queue, exchange, routing_key=key, callback=answer
    )


def _pass_by(source: str, destination: str, key: str) -> Step:
    def step(channel: Any, answer: Callable[[Any], None]) -> None:
        channel.exchange_bind(destination, source, routing_key=key, callback=answer)

    return step
