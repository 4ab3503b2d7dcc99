"""One RabbitMQ as the roles of a family see it: publishing, declaring, asking.

Owns: Server.
Thread rule: any thread; each connection has one of its own.
May import: kernel, pika, drivers.amqp.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import pika.exceptions as faults

from celeriac.drivers.amqp.address import Address
from celeriac.drivers.amqp.channel import Outbox, Outgoing, Ticket, verdict
from celeriac.drivers.amqp.connection import Link
from celeriac.drivers.amqp.steps import Steps, Work
from celeriac.kernel.errors import BrokerRejected, BrokerUnavailable, PublishUncertain

T = TypeVar("T")

logger = logging.getLogger("celeriac.amqp")


class Server:
    """The connection that publishes, and what makes the others.

    :param deadline: seconds that one publish or question may take.
    """

    def __init__(self, addresses: Sequence[Address], *, deadline: float = 10.0) -> None:
        self.addresses = addresses
        self.deadline = deadline
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._outbox = Outbox()
        self._link: Link | None = None
        self.epoch = 0
        """Counts the connections: what was declared on a former one may be gone."""

    @property
    def name(self) -> str:
        """The server for people, without a password."""
        return self.addresses[0].shown

    def link(self) -> Link:
        """Return the publishing connection, open.

        :raises BrokerUnavailable: no server answers.
        :raises BrokerRejected: the login is wrong.
        """
        link = self._link
        if link is None:
            with self._lock:
                link = self._link
                if link is None:
                    link = self._link = Link(
                        self.addresses, "publish", began=self._began, ended=self._ended
                    )
        if not link.is_up:
            link.up(self.deadline)
        return link

    def _began(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._opened)

    def _opened(self, channel: Any) -> None:
        def confirmed(_: Any) -> None:
            self._outbox.begin(channel)
            self.epoch += 1
            if self._link is not None:
                self._link.ready()

        def closed(_: Any, error: Exception) -> None:
            self._outbox.lose(error)
            if channel.connection.is_open:
                # A fault of the channel, such as an exchange that is gone: begin with a new one.
                channel.connection.channel(on_open_callback=self._opened)

        channel.add_on_close_callback(closed)
        channel.confirm_delivery(self._outbox.on_confirm, callback=confirmed)

    def _ended(self, error: Exception) -> None:
        self._outbox.lose(error)

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Return once the server has confirmed every message.

        :raises BrokerUnavailable: it did not, or takes nothing for now; PublishUncertain where it
            may have some of them.
        :raises BrokerRejected: no queue takes one of them, or its queue is full.
        """
        if messages:
            verdict(self.send(messages))

    def send(self, messages: Sequence[Outgoing]) -> Ticket:
        """Publish, and return what became of each message."""
        return self.wait(self.begin(messages))

    def begin(self, messages: Sequence[Outgoing]) -> Ticket:
        """Publish, without waiting for the confirms."""
        link, ticket = self.link(), Ticket(messages)
        if link.blocked:
            self._wait_unblocked(link)
        link.call(lambda _: self._outbox.submit(ticket))
        return ticket

    def wait(self, ticket: Ticket) -> Ticket:
        """Wait for the confirms of a batch, and return what became of each message.

        :raises PublishUncertain: they did not come.
        """
        link = self._link
        if link is None:  # closed meanwhile
            if not ticket.done.is_set():
                raise PublishUncertain("the connection was closed before the broker had confirmed")
            return ticket
        ends = time.monotonic() + self.deadline
        while not ticket.done.wait(min(1.0, max(0.01, ends - time.monotonic()))):
            if ticket.done.is_set():
                break
            if not link.is_up and not ticket.done.wait(0.2):
                ticket.dead = True
                raise PublishUncertain("the connection was lost before the broker had confirmed")
            if time.monotonic() >= ends:
                ticket.dead = True
                if link.blocked:
                    raise PublishUncertain(self._blocked(link))
                raise PublishUncertain(f"no confirm came within {self.deadline:.0f} s")
        return ticket

    def _wait_unblocked(self, link: Link) -> None:
        ends = time.monotonic() + self.deadline
        pause = threading.Event()
        while link.blocked and link.is_up:
            if time.monotonic() > ends:
                raise BrokerUnavailable(self._blocked(link))
            pause.wait(0.05)

    def _blocked(self, link: Link) -> str:
        return (
            f"{self.name} takes no messages for now ({link.blocked}): "
            "it has run out of memory or disk (rabbitmqctl status)"
        )

    def ask(self, work: Work, *, on: Link | None = None) -> Any:
        """Do `work` step by step on a channel of its own, and return what it returned.

        :param work: a generator function, see `Steps`.
        :raises BrokerRejected: the server refused a step.
        :raises BrokerUnavailable: the connection was lost, or nothing came in time.
        """
        link = on or self.link()
        steps = Steps(work)
        link.call(steps.begin)
        if not steps.done.wait(self.deadline):
            raise BrokerUnavailable(f"{self.name} did not answer within {self.deadline:.0f} s")
        return steps.outcome()

    def close(self) -> None:
        """Close the publishing connection; it is made again when it is needed."""
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close()

    def after_fork(self) -> None:
        """Forget every connection without closing it."""
        self._lock = threading.Lock()
        self._forget()


def refusal(error: BaseException, what: str) -> Exception:
    """Return the error, in words, of a channel that the server closed."""
    if isinstance(error, faults.ChannelClosedByBroker):
        return BrokerRejected(f"{what}: {error.reply_text} ({error.reply_code})")
    return BrokerUnavailable(f"{what}: {error}")
