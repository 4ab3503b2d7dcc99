"""Durable queues: what the engine asks of a broker.

The contract is `celeriac.testing.contract.broker`; each sentence here is a test there.

Owns: Broker, Consumer, PublishesAhead, TakesBack, JoinsTransactions, HasExchanges.  May import: kernel, ports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from celeriac.kernel.entities import Queue
from celeriac.kernel.message import Buried, Delivery, Envelope, QueueCount, Settlement
from celeriac.ports.caps import Capabilities


class Consumer(Protocol):
    """One worker's hold on some queues.

    Thread rule: `claim` belongs to the fetcher, `settle` to the settler, `extend` to the keeper;
    each may run while the others do.  `wake` may be called from any thread.
    """

    def claim(self, limit: int, *, wait: float, suspects: int = 1) -> Sequence[Delivery]:
        """Take up to `limit` envelopes under a lease, waiting up to `wait` seconds for the first.

        The queues of the consumer are looked through in order of priority, then of arrival.
        Taking and leasing are one step.  An envelope that has lost a worker before
        (`handed_out > 1`) is a suspect: at most `suspects` of them are handed out, so that what it
        may do to this worker is done to it alone.  Never returns an envelope before its
        `not_before`, nor one with an id that is held.
        """
        ...

    def settle(self, batch: Sequence[Settlement]) -> Sequence[Delivery]:
        """End deliveries, each with all that goes with it.

        Return the deliveries that were no longer ours; nothing was written for those.  RELEASE
        leaves `handed_out` as it was, LOST raises it, RETRY starts the new attempt at 1.
        """
        ...

    def extend(self, held: Sequence[Delivery], *, lease: float) -> Sequence[Delivery]:
        """Make the leases of `held` last `lease` seconds from now; return the lost ones.

        Sets `lease_until` of the others.
        """
        ...

    def watch(self, queues: Sequence[str]) -> None:
        """Consume these queues from the next claim on, instead of the former ones."""
        ...

    def wake(self) -> None:
        """End a waiting `claim` within 50 ms; it returns what it has."""
        ...

    def close(self) -> None:
        """Give up the hold.  What is still held comes back to the queues as lost."""
        ...


class Broker(Protocol):
    """Durable queues.  Raises only BrokerUnavailable (try again) and BrokerRejected (do not).

    Thread rule: every method may be called from any thread.
    """

    caps: Capabilities

    def open(self) -> None:
        """Connect and check; a second call does nothing."""
        ...

    def close(self) -> None:
        """Let go of every connection; a second call does nothing."""
        ...

    def declare(self, queues: Sequence[str]) -> None:
        """Make queues known, where the broker must be told."""
        ...

    def publish(self, batch: Sequence[Envelope]) -> None:
        """Return once every envelope is safe.  All or nothing where the driver can."""
        ...

    def consume(self, queues: Sequence[str], *, owner: str, lease: float) -> Consumer:
        """Return a consumer of `queues`.

        :param owner: the worker's node name, for people.
        :param lease: seconds that a claim lasts unless it is extended.
        """
        ...

    def withdraw(self, ids: Sequence[str]) -> Sequence[str]:
        """Take queued envelopes back; return the ids that were queued and are no more."""
        ...

    def count(self, queues: Sequence[str]) -> Mapping[str, QueueCount]:
        """Return what each of `queues` holds; of every queue known where `queues` is empty."""
        ...

    def peek(self, queue: str, *, limit: int, after: str | None = None) -> Sequence[Envelope]:
        """List queued envelopes (ready, then delayed), from the one behind id `after` on."""
        ...

    def purge(self, queue: str) -> int:
        """Drop what is ready or delayed in `queue`; return how many.  What is held stays."""
        ...

    def buried(self, *, limit: int, after: str | None = None) -> Sequence[Buried]:
        """List what was buried, the oldest first, from the one behind id `after` on."""
        ...

    def requeue(self, ids: Sequence[str]) -> Sequence[str]:
        """Put buried envelopes back into their queues, deliveries uncounted; return which."""
        ...

    def drop(self, ids: Sequence[str]) -> Sequence[str]:
        """Delete buried envelopes; return which."""
        ...

    def upkeep(self, now: float) -> None:
        """Return expired leases, promote due envelopes.  Cheap, idempotent, safe on every worker.

        :param now: unix seconds.
        """
        ...


@runtime_checkable
class TakesBack(Protocol):
    """Optional: a broker that hands over what it withdraws, so that a chord hears of it."""

    def take_back(self, ids: Sequence[str]) -> Sequence[Envelope]:
        """Take queued envelopes back, as `withdraw`, and return them."""
        ...


@runtime_checkable
class PublishesAhead(Protocol):
    """Optional: a broker whose confirms come later, so that the next envelopes can be made meanwhile."""

    def begin(self, batch: Sequence[Envelope]) -> Callable[[], None]:
        """Send a batch; what is returned waits until it is safe, and raises as `publish` does."""
        ...


@runtime_checkable
class HasExchanges(Protocol):
    """Optional: a broker with `Capabilities.exchanges`, which can be told of queues while it is used."""

    def describe(self, queue: Queue) -> None:
        """Declare `queue` as it says from now on: its arguments, exchange and bindings."""
        ...


class JoinsTransactions(Protocol):
    """Optional, for SQL brokers: the task exists if and only if the caller's transaction commits."""

    def publish_in(self, connection: object, batch: Sequence[Envelope]) -> None:
        """Publish inside the transaction that is open on `connection`."""
        ...
