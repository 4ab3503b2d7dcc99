"""One connection and the thread that owns it: connects, notices loss, connects again.

Owns: Link, rejection.
Thread rule: everything of pika's runs in the link's own thread; `call`, `up`, `close` from any.
May import: kernel, pika, drivers.amqp.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pika
import pika.exceptions as faults
from pika.adapters.select_connection import IOLoop

from celeriac.drivers.amqp.address import Address
from celeriac.drivers.amqp.reader import Connection
from celeriac.kernel.errors import BrokerRejected, BrokerUnavailable, CeleryError

logger = logging.getLogger("celeriac.amqp")
# What pika writes at each refused connection is said once, in our words.
logging.getLogger("pika").setLevel(logging.CRITICAL)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0
"""Seconds between attempts to connect, each up to half of that longer or shorter."""
SILENCE = 20_000
"""Milliseconds after which the kernel gives up bytes that nobody acknowledges."""

_OURS_IS_BAD = (
    *("CERTIFICATE_REQUIRED", "ALERT_UNKNOWN_CA", "ALERT_BAD_CERTIFICATE"),
    *("ALERT_CERTIFICATE_EXPIRED", "ALERT_CERTIFICATE_UNKNOWN", "ALERT_CERTIFICATE_REVOKED"),
)
"""What a server says that does not like a client's certificate, in OpenSSL's words."""

Call = Callable[[Any], None]


class Link:
    """A connection to the first of some servers that answers, kept up for as long as it is wanted.

    :param name: of the thread and of the connection, for people.
    :param began: called in the thread with each new connection once it is open.
    :param ended: called in the thread when that connection is lost.
    :param keep: whether to connect again by itself; otherwise at the next `up`.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        name: str,
        *,
        began: Callable[[Any], None],
        ended: Callable[[Exception], None],
        keep: bool = False,
    ) -> None:
        self._addresses = addresses
        self._name = name
        self._began, self._ended, self._keep = began, ended, keep
        self._state = threading.Condition()
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._ready = False
        self._served = False
        self._rounds = 0
        self._error: CeleryError | None = None
        self._calls: deque[Call] = deque()
        self._scheduled = False
        self._connection: Any = None
        self._loop: Any = None
        self.blocked = ""
        """Why the server takes nothing more for now; empty where it does."""

    # -- from any thread ------------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        """Whether the connection is open and prepared."""
        return self._ready

    @property
    def error(self) -> CeleryError | None:
        """Why the last attempt failed."""
        return self._error

    @property
    def closing(self) -> bool:
        """Whether `close` was called."""
        return self._closing

    def up(self, timeout: float) -> None:
        """Wait for the connection, making it where there is none.

        :raises BrokerUnavailable: no server could be reached within `timeout` seconds.
        :raises BrokerRejected: the server refused the login, or what was declared.
        """
        if self.is_up:
            return
        ends = time.monotonic() + timeout
        with self._state:
            if self._closing:
                raise BrokerUnavailable("the connection to the broker is closed")
            self._start()
            seen = self._rounds
            self._error = None
            self._wanted.set()
            while not self.is_up:
                left = ends - time.monotonic()
                error = self.error
                if error is not None and self._rounds > seen:
                    raise error
                if left <= 0 or self._closing:
                    raise error or BrokerUnavailable(
                        f"{self._addresses[0].shown} did not answer within {timeout:.0f} s"
                    )
                # Set again: the thread may just have been about to rest.
                self._wanted.set()
                self._state.wait(min(left, 0.5))

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name=f"celeriac-amqp-{self._name}", daemon=True
            )
            self._thread.start()

    def call(self, work: Call) -> None:
        """Run `work(connection)` in the thread; dropped where the connection is down."""
        with self._state:
            if not self._ready:
                return
            self._calls.append(work)
            if self._scheduled:
                return
            self._scheduled = True
            loop = self._loop
        loop.add_callback_threadsafe(self._drain)

    def close(self) -> None:
        """Close the connection and end the thread; a second call does nothing."""
        with self._state:
            self._closing = True
            self._wanted.set()
            self._state.notify_all()
            loop, thread, ready = self._loop, self._thread, self._ready
        if loop is not None:
            loop.add_callback_threadsafe(self._shut if ready else loop.stop)
        if thread is not None and thread is not threading.current_thread():
            thread.join(5.0)

    def drop(self) -> None:
        """Cut the connection as a fault would: what depends on it is made anew."""
        self.call(lambda connection: connection._terminate_stream(faults.AMQPHeartbeatTimeout()))

    # -- in the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        pause = 0.0
        while self._is_wanted():
            if any(self._attempt(address) or self._closing for address in self._addresses):
                # It was lost right after it came up, perhaps by what is declared: not in a circle.
                pause = 0.0
                self._rest(FIRST_PAUSE)
                continue
            with self._state:
                self._rounds += 1
                self._state.notify_all()
            pause = min(LONGEST_PAUSE, pause * 2 or FIRST_PAUSE)
            self._rest(pause)

    def _is_wanted(self) -> bool:
        """Wait until somebody wants a connection; False once none is to be made any more."""
        self._wanted.wait()
        return not self._closing

    def _rest(self, seconds: float) -> None:
        """Pause, or wait to be asked where the connection is not kept up by itself."""
        with self._state:
            if not self._keep and not self._closing:
                self._wanted.clear()
                return
        self._sleep(seconds * random.uniform(0.5, 1.5))

    def _sleep(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        with self._state:
            while not self._closing and (left := ends - time.monotonic()) > 0:
                self._state.wait(left)

    def _attempt(self, address: Address) -> bool:
        """Connect and serve until the connection ends; True where it was open."""
        loop = IOLoop()
        opened: list[bool] = []
        try:
            with self._state:
                self._loop = loop
            self._connection = Connection(
                parameters(address, self._name),
                on_open_callback=lambda connection: self._opened(connection, opened),
                on_open_error_callback=lambda _, error: self._failed(address, error),
                on_close_callback=lambda _, error: self._lost(error),
                custom_ioloop=loop,
            )
            if not self._closing:
                loop.start()
        except CeleryError as error:
            self._error = error
        except Exception as error:  # pika's own faults in its loop: the thread must not die of them
            logger.exception("the connection to %s broke", address.shown)
            self._lost(error)
        finally:
            with self._state:
                self._loop, self._connection = None, None
                self._scheduled = False
                self._calls.clear()
            loop.close()
        return bool(opened)

    def _opened(self, connection: Any, opened: list[bool]) -> None:
        opened.append(True)
        connection.read_much()
        connection.add_on_connection_blocked_callback(self._say_blocked)
        connection.add_on_connection_unblocked_callback(self._say_unblocked)
        self.blocked = ""
        self._began(connection)

    def ready(self) -> None:
        """Say, in the thread, that what `began` prepares is there."""
        with self._state:
            self._ready = self._served = True
            self._error = None
            self._state.notify_all()

    def refuse(self, error: CeleryError) -> None:
        """Say, in the thread, that the server refused what `began` prepares."""
        with self._state:
            self._error = self._mild(error)
            self._rounds += 1
            self._state.notify_all()

    def _failed(self, address: Address, error: BaseException) -> None:
        with self._state:
            self._error = self._mild(rejection(address, error))
        if self._loop is not None:
            self._loop.stop()

    def _mild(self, error: CeleryError) -> CeleryError:
        """Return what to raise: who was let in once tries again, whatever the reason is now."""
        if self._served and not isinstance(error, BrokerUnavailable):
            return BrokerUnavailable(str(error))
        return error

    def _lost(self, error: BaseException) -> None:
        with self._state:
            was, self._ready = self._ready, False
            if self._error is None or was:
                self._error = BrokerUnavailable(f"the connection to the broker was lost: {error}")
            self._state.notify_all()
        self.blocked = ""
        if was and not self._closing:
            logger.warning("%s: the connection to the broker was lost: %s", self._name, error)
        self._ended(error if isinstance(error, Exception) else BrokerUnavailable(str(error)))
        if self._loop is not None:
            self._loop.stop()

    def _say_blocked(self, _: Any, frame: Any) -> None:
        self.blocked = frame.method.reason or "no reason given"
        logger.warning("the broker takes nothing more for now: %s", self.blocked)

    def _say_unblocked(self, *_: Any) -> None:
        self.blocked = ""
        logger.info("the broker takes messages again")

    def _drain(self) -> None:
        connection = self._connection
        while True:
            with self._state:
                if not self._calls or connection is None:
                    self._scheduled = False
                    return
                work = self._calls.popleft()
            if connection.is_open:
                work(connection)

    def _shut(self) -> None:
        connection = self._connection
        if connection is not None and connection.is_open:
            connection.close()
        elif self._loop is not None:
            self._loop.stop()


def parameters(address: Address, name: str) -> pika.ConnectionParameters:
    """Return what pika needs to connect.

    :raises ImproperlyConfigured: a file for TLS cannot be read.
    """
    context = address.context()
    options: Any = None
    if context is not None and address.tls is not None:
        server = address.tls.get("server_hostname") or address.host
        options = pika.SSLOptions(context, server)
    return pika.ConnectionParameters(
        host=address.host,
        port=address.port,
        virtual_host=address.vhost,
        credentials=pika.PlainCredentials(address.username, address.password),
        heartbeat=address.heartbeat,
        ssl_options=options,
        socket_timeout=address.connect_timeout,
        stack_timeout=2 * address.connect_timeout,
        connection_attempts=1,
        tcp_options={"TCP_USER_TIMEOUT": SILENCE},
        client_properties={"connection_name": f"celeriac-{name}", "product": "celeriac"},
    )


def rejection(address: Address, error: BaseException) -> CeleryError:
    """Return the error, in words, of a connection that could not be opened."""
    said = repr(error)
    # Without the server's own words it was no refusal: servers that go down break off at any point.
    if "ACCESS_REFUSED" in said:
        return BrokerRejected(
            f"{address.shown}: the user or the password is wrong (rabbitmqctl list_users)"
        )
    if "NOT_ALLOWED" in said:
        return BrokerRejected(
            f"{address.shown}: {address.username} has no access to the vhost {address.vhost!r}, or "
            "there is none of that name (rabbitmqctl add_vhost, set_permissions)"
        )
    text = "; ".join(str(cause) or type(cause).__name__ for cause in _deepest(error))
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return BrokerRejected(
            f"{address.shown}: the server's certificate is not trusted ({text}): "
            "name its authority in broker_use_ssl = {'ca_certs': ...}"
        )
    if any(alert in text for alert in _OURS_IS_BAD):
        return BrokerRejected(
            f"{address.shown}: the server wants a certificate that it trusts ({text}): "
            "name yours in broker_use_ssl = {'certfile': ..., 'keyfile': ...}"
        )
    if "WRONG_VERSION_NUMBER" in text:
        return BrokerRejected(
            f"{address.shown}: that port speaks no TLS ({text}): use the server's port for TLS, "
            "which is 5671 mostly, or amqp:// and no broker_use_ssl"
        )
    hint = ""
    if address.tls is None and "Stream connection lost" in text:
        hint = " (where the server speaks TLS on that port, the URL is amqps://)"
    elif address.tls is not None and "Stream connection lost" in text:
        # In TLS 1.3 (RFC 8446, 4.4) the server looks at our certificate when we have begun to write:
        # its alert may come too late to be read.
        hint = (
            " (where the server wants a certificate that it trusts, name yours in broker_use_ssl ="
            " {'certfile': ..., 'keyfile': ...})"
        )
    return BrokerUnavailable(f"{address.shown} cannot be reached: {text}{hint}")


def _deepest(error: BaseException) -> list[BaseException]:
    """Return what lies at the bottom of pika's nested errors."""
    found: list[BaseException] = []
    nested = [*getattr(error, "exceptions", ()), *getattr(error, "args", ())]
    inner = [one for one in nested if isinstance(one, BaseException)]
    more = getattr(error, "exception", None)
    if isinstance(more, BaseException):
        inner.append(more)
    for one in inner:
        found += _deepest(one)
    return found or [error]
