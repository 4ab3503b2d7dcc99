"""Questions to the server, one after the other, on a channel that lasts only as long.

Owns: Steps.
Thread rule: runs in a link's thread; `done` and `outcome` are for the one who asked.
May import: kernel, pika, drivers.amqp.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Any

import pika.exceptions as faults

from celeriac.kernel.errors import BrokerRejected, BrokerUnavailable, CeleryError

Step = Callable[[Any, Callable[[Any], None]], None]
"""Called with the channel and with what to call with the answer."""
Work = Callable[[], Generator[Step, Any, Any]]


class Refused(BrokerRejected):
    """The server closed the channel instead of answering."""

    code = 0
    text = ""


class Steps:
    """A generator that yields steps and gets their answers.

    A refusal closes the channel: it is raised inside the generator, whose next step has a new one.
    """

    def __init__(self, work: Work) -> None:
        self._generator = work()
        self.done = threading.Event()
        self.then: Callable[[], None] = lambda: None
        """Called in the link's thread at the end."""
        self._result: Any = None
        self._error: Exception | None = None
        self._connection: Any = None
        self._channel: Any = None

    def begin(self, connection: Any) -> None:
        """Start, in the thread of the connection."""
        self._connection = connection
        self._open(lambda: self._go(lambda: next(self._generator)))

    def _open(self, then: Callable[[], None]) -> None:
        def opened(channel: Any) -> None:
            self._channel = channel
            channel.add_on_close_callback(self._closed)
            then()

        self._connection.channel(on_open_callback=opened)

    def _closed(self, channel: Any, error: Exception) -> None:
        if self.done.is_set() or channel is not self._channel:
            return
        if isinstance(error, faults.ChannelClosedByBroker) and self._connection.is_open:
            refused = Refused(f"{error.reply_text} ({error.reply_code})")
            refused.code, refused.text = error.reply_code, error.reply_text
            self._open(lambda: self._go(lambda: self._generator.throw(refused)))
            return
        self._finish(error=BrokerUnavailable(f"the connection to the broker was lost: {error}"))

    def _go(self, move: Callable[[], Step]) -> None:
        try:
            step = move()
        except StopIteration as end:
            self._finish(result=end.value)
        except CeleryError as error:
            self._finish(error=error)
        except Exception as error:
            self._finish(error=error)
        else:
            try:
                step(self._channel, self._answer)
            except Exception as error:
                self._finish(error=error)

    def _answer(self, answer: Any) -> None:
        self._go(lambda: self._generator.send(answer))

    def _finish(self, result: Any = None, error: Exception | None = None) -> None:
        self._result, self._error = result, error
        self.done.set()
        if self._channel is not None and self._channel.is_open:
            self._channel.close()
        self.then()

    def outcome(self) -> Any:
        """Return what the generator returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._result
