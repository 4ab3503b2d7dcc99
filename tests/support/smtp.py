"""A mail server on 127.0.0.1 that can refuse, be slow, and go away.

Owns: MailServer.  May import: aiosmtpd, and what tests use.
"""

from __future__ import annotations

import asyncio
from email import message_from_bytes
from email.message import Message
from typing import Any

from aiosmtpd.controller import Controller

from tests.support.ports import free_port


class MailServer:
    """Speaks SMTP in a thread of its own; keeps what it accepted.

    :param answers: what it says to the next mails, before it accepts all: `"451 busy"`.
    :param slow: seconds that it takes for each.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.mails: list[Message] = []
        self.answers: list[str] = []
        self.slow = 0.0
        self.refused = self.talking = 0
        self._controller: Controller | None = None

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # aiosmtpd's name
        """Take a mail, or not."""
        if self.answers:
            self.refused += 1
            return self.answers.pop(0)
        self.talking += 1
        await asyncio.sleep(self.slow)
        self.talking -= 1
        self.mails.append(message_from_bytes(envelope.content))
        return "250 OK"

    def start(self) -> MailServer:
        """Listen."""
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()
        return self

    def stop(self) -> None:
        """Listen no more; what it accepted stays."""
        if self._controller is not None:
            self._controller.stop()
            self._controller = None
