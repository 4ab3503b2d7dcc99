"""Sends envelopes: now, or together at the end of a batch; again while the broker is away.

Owns: Publisher, Batch, Collected.  Thread rule: any thread; a batch belongs to the context that opened it.
May import: kernel, ports, client.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, TypeVar

from celeriac.client.announce import after_publish
from celeriac.client.signals import after_task_publish
from celeriac.kernel.errors import BrokerUnavailable, OperationalError
from celeriac.kernel.message import Envelope
from celeriac.kernel.retry import policy_delays
from celeriac.ports.broker import Broker, PublishesAhead

logger = logging.getLogger("celeriac.client")
T = TypeVar("T")

FLUSH_AT = 1_000
"""Envelopes that a batch collects before it sends some: bounds its memory."""
AHEAD = 3
"""How often a batch sends some more while the broker has not yet confirmed what came before."""

Wait = Callable[[], None]

_batch: ContextVar[Batch | None] = ContextVar("celeriac_batch", default=None)


class Publisher:
    """Sends through one broker.

    :param broker: returns the open broker.
    :param deadline: seconds that one publish may take in all, with its retries.
    :param on_sent: called with what was sent.
    """

    def __init__(
        self,
        broker: Callable[[], Broker],
        deadline: float,
        *,
        on_sent: Callable[[Sequence[Envelope]], None] | None = None,
    ) -> None:
        self._broker = broker
        self._deadline = deadline
        self._on_sent = on_sent

    def publish(
        self, envelopes: Sequence[Envelope], policy: Mapping[str, Any] | None = None
    ) -> None:
        """Send envelopes, or keep them for the end of the batch that is open here.

        A send that failed is tried again with the same ids, which the broker knows apart.

        :param policy: Celery's `retry_policy`; None tries once.
        :raises BrokerUnavailable: the broker was away for longer than the policy allows.
        :raises BrokerRejected: the broker refused.
        """
        batch = _batch.get()
        if batch is not None and batch.publisher is self:
            batch.add(envelopes)
            return
        self.send(envelopes, policy)

    def send(self, envelopes: Sequence[Envelope], policy: Mapping[str, Any] | None) -> None:
        """Send envelopes now; as `publish` otherwise."""
        began = time.monotonic()
        try:
            self._broker().publish(envelopes)
        except BrokerUnavailable as error:
            if policy is None:
                raise
            self._retry(envelopes, policy, error, began)
        if self._on_sent is not None or after_task_publish.receivers:
            self.tell(envelopes)

    def begin(self, envelopes: Sequence[Envelope], policy: Mapping[str, Any] | None) -> Wait | None:
        """Send envelopes; what is returned waits until they are safe, and raises as `send` does.

        None where the broker has no such way.
        """
        broker = self._broker()
        if not isinstance(broker, PublishesAhead):
            return None
        waiting, failed = _tried(lambda: broker.begin(envelopes))

        def wait() -> None:
            error = failed if waiting is None else _tried(waiting)[1]
            if error is not None:
                if policy is None:
                    raise error
                self._retry(envelopes, policy, error, time.monotonic())
            self.tell(envelopes)

        return wait

    def tell(self, envelopes: Sequence[Envelope]) -> None:
        """Tell whoever wants to know what was sent, by this publisher or otherwise."""
        if after_task_publish.receivers:
            after_publish(envelopes)
        if self._on_sent is not None:
            self._on_sent(envelopes)

    def _retry(
        self,
        envelopes: Sequence[Envelope],
        policy: Mapping[str, Any],
        error: BrokerUnavailable,
        began: float,
    ) -> None:
        ends, attempt = began + self._deadline, began
        for delay in policy_delays(policy):
            # Where the last attempt took long, so will the next: one that hardly fits is left out.
            now = time.monotonic()
            if now + delay + (now - attempt) / 2 > ends:
                break
            time.sleep(delay)
            attempt = time.monotonic()
            try:
                self._broker().publish(envelopes)
            except BrokerUnavailable as again:
                error = again
            else:
                return
        raise error


def _tried(call: Callable[[], T]) -> tuple[T | None, BrokerUnavailable | None]:
    """Return what `call` returned, or that the broker was away."""
    try:
        return call(), None
    except BrokerUnavailable as error:
        return None, error


class Batch:
    """Collects what is published while it is open and sends it in as few calls as can be.

    Use it as `with app.batch():`.  When the block raises, what was collected is not sent.

    :param policy: Celery's `retry_policy`.
    """

    def __init__(self, publisher: Publisher, policy: Mapping[str, Any] | None = None) -> None:
        self.publisher = publisher
        self._policy = policy
        self._held: list[Envelope] = []
        self._ahead: deque[Wait] = deque()
        self._token: Token[Batch | None] | None = None

    def add(self, envelopes: Sequence[Envelope]) -> None:
        """Collect; sends what is there when it has become much."""
        self._held.extend(envelopes)
        if len(self._held) >= FLUSH_AT:
            held, self._held = self._held, []
            wait = self.publisher.begin(held, self._policy)
            if wait is None:
                self.publisher.send(held, self._policy)
                return
            self._ahead.append(wait)
            if len(self._ahead) > AHEAD:
                self._ahead.popleft()()

    def flush(self) -> None:
        """Send what was collected so far; returns once all of it is safe."""
        held, self._held = self._held, []
        if held:
            wait = self.publisher.begin(held, self._policy) if self._ahead else None
            if wait is not None:
                self._ahead.append(wait)
            else:
                self.publisher.send(held, self._policy)
        while self._ahead:
            self._ahead.popleft()()

    def __enter__(self) -> Batch:
        self._token = _batch.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._token is not None:
            _batch.reset(self._token)
        if error is None:
            self.flush()
            return
        while self._ahead:
            try:
                # Sent already: whoever listens is told of it.
                self._ahead.popleft()()
            except OperationalError as also:
                logger.warning("a part of a batch was not sent: %s", also)


class Collected(Batch):
    """A batch that sends nothing: who opened it sees to what it holds.

    Where another batch is open already, that one gets it all.
    """

    def __init__(self, publisher: Publisher) -> None:
        super().__init__(publisher)
        self._outer = _batch.get()

    @property
    def envelopes(self) -> Sequence[Envelope]:
        """What was published meanwhile."""
        return self._held

    def add(self, envelopes: Sequence[Envelope]) -> None:
        """Collect."""
        if self._outer is not None:
            self._outer.add(envelopes)
        else:
            self._held.extend(envelopes)

    def flush(self) -> None:
        """Leave what was collected to who opened this."""
