"""What receivers of the worker's signals are given of a task that does not run: request and message.

Owns: Request, Message.  May import: kernel, ports, client.
"""

from __future__ import annotations

from typing import Any

from celeriac.client.context import Context
from celeriac.kernel.errors import CeleryError
from celeriac.kernel.message import Delivery
from celeriac.kernel.wire import Headers, to_celery, unpack
from celeriac.ports.codec import Acceptance
from celeriac.ports.registry import find_codec, find_compression

LARGEST = 16 * 1024 * 1024
"""Bytes of a compressed body that is opened to show its arguments."""


class Request(Context):
    """A task that this worker has taken, as receivers of signals see it.

    Its arguments are decoded when they are read; a body that cannot be read has none.
    """

    def __init__(self, delivery: Delivery, hostname: str, acceptance: Acceptance) -> None:
        try:
            head, payload = unpack(delivery.envelope.body)
        except CeleryError:
            head, payload = Headers("?", delivery.envelope.id), b""
        super().__init__(head, delivery.envelope)
        del self.args, self.kwargs  # read through `__getattr__`
        self._payload, self._acceptance = payload, acceptance
        self.hostname = hostname
        self.handed_out = delivery.handed_out
        self.name = self.task_name = self.type = head.task
        self.task_id = self.id

    def __getattr__(self, name: str) -> Any:
        if name in ("args", "kwargs", "embed"):
            self._open()
            return self.__dict__[name]
        return super().__getattr__(name)

    def _open(self) -> None:
        head, payload = self.head, self._payload
        args, kwargs, embed = (), {}, {}
        try:
            self._acceptance.check(head.content_type)
            if head.compression:
                payload = find_compression(head.compression).decompress(payload, limit=LARGEST)
            args, kwargs, embed = find_codec(head.content_type).loads(payload)
        except (CeleryError, TypeError, ValueError):
            pass  # whoever runs it says what is wrong with it
        self.__dict__.update(args=args, kwargs=kwargs, embed=embed or {})

    @property
    def request_dict(self) -> dict[str, Any]:
        """The headers, as Celery's request has them."""
        return dict(self.headers)

    def humaninfo(self) -> str:
        """Return name and id."""
        return f"{self.name}[{self.id}]"


class Message:
    """A message that could not be made a task: Celery's form of it, as far as it can be read."""

    def __init__(self, delivery: Delivery) -> None:
        envelope = delivery.envelope
        self.headers: dict[str, Any] = {}
        self.properties: dict[str, Any] = {}
        self.body = envelope.body
        try:
            self.headers, self.properties, self.body = to_celery(envelope)
        except CeleryError:
            pass  # the body stays as it came
        self.delivery_info = {
            "exchange": "",
            "routing_key": envelope.queue,
            "redelivered": delivery.handed_out > 1,
        }
        self.content_type = self.properties.get("content_type")
        self.content_encoding = self.properties.get("content_encoding")
