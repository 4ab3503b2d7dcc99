"""What coroutines send goes together, and each of them hears of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.client.publisher import Publisher
from celeriac.client.sender import Sender
from celeriac.kernel.errors import BrokerRejected, BrokerUnavailable, PayloadTooLarge
from celeriac.kernel.message import Envelope


class Slow:
    """A broker that notes what it gets, and refuses what is called bad."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.away = False

    def publish(self, batch: Sequence[Envelope]) -> None:
        if self.away:
            raise BrokerUnavailable("away")
        if any(one.id == "bad" for one in batch):
            raise PayloadTooLarge("bad")
        self.batches.append([one.id for one in batch])


def sender(broker: Any) -> Sender:
    return Sender(Publisher(lambda: broker, 1.0), None)


def test_what_comes_together_goes_together() -> None:
    broker = Slow()
    mine = sender(broker)

    async def main() -> None:
        await asyncio.gather(*(mine.send([Envelope(str(n), "q", b"")]) for n in range(500)))

    asyncio.run(main())
    sent = [name for batch in broker.batches for name in batch]
    assert sent == [str(n) for n in range(500)]
    assert len(broker.batches) < 100
    mine.close()


def test_the_one_that_is_refused_fails_alone() -> None:
    broker = Slow()
    mine = sender(broker)

    async def main() -> list[Any]:
        ids = ["a", "bad", "b"]
        calls = (mine.send([Envelope(one, "q", b"")]) for one in ids)
        return await asyncio.gather(*calls, return_exceptions=True)

    first, second, third = asyncio.run(main())
    assert (first, third) == (None, None)
    assert isinstance(second, BrokerRejected)
    mine.close()


def test_all_hear_of_a_broker_that_is_away() -> None:
    broker = Slow()
    broker.away = True
    mine = sender(broker)

    async def main() -> None:
        with pytest.raises(BrokerUnavailable):
            await mine.send([Envelope("a", "q", b"")])
        broker.away = False
        await mine.send([Envelope("b", "q", b"")])

    asyncio.run(main())
    assert broker.batches == [["b"]]
    mine.close()


def test_a_cancelled_wait_hurts_nobody() -> None:
    broker = Slow()
    mine = sender(broker)

    async def main() -> None:
        for n in range(20):
            waiting = asyncio.ensure_future(mine.send([Envelope(f"x{n}", "q", b"")]))
            await asyncio.sleep(0)
            waiting.cancel()
        await mine.send([Envelope("last", "q", b"")])

    asyncio.run(main())
    assert broker.batches[-1][-1] == "last"
    mine.close()


def test_a_closed_sender_says_so() -> None:
    mine = sender(Slow())
    mine.close()

    async def main() -> None:
        with pytest.raises(BrokerUnavailable, match="closed"):
            await asyncio.wait_for(mine.send([Envelope("a", "q", b"")]), 10)

    asyncio.run(main())


def test_adelay_inside_a_batch_is_sent_with_the_batch() -> None:
    app = Celeriac("sender", broker="memory://sender", set_as_current=False)

    @app.task(name="sender.noop")
    def noop() -> None:
        pass

    async def main() -> None:
        with app.batch():
            await noop.adelay()
            assert app.broker.count(["celery"])["celery"].ready == 0
        assert app.broker.count(["celery"])["celery"].ready == 1
        await asyncio.gather(*(noop.adelay() for _ in range(50)))

    asyncio.run(main())
    assert app.broker.count(["celery"])["celery"].ready == 51
    app.close()
