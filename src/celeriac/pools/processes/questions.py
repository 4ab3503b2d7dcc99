"""What the parent of a process pool asks its children about themselves, and what they answer.

Owns: Questions.  Thread rule: any thread.  May import: pools.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from celeriac.pools.processes.child import LOOK
from celeriac.pools.processes.member import Member
from celeriac.pools.processes.slot import Slot


class Questions:
    """Questions that are open."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._token = 0
        self._answers: dict[int, bytes | None] = {}
        self._levels: dict[str, Mapping[str, Any]] = {}
        """Log levels that were changed: for children that come later."""

    def ask(
        self, children: Iterable[tuple[int, Slot]], ask: Mapping[str, Any], wait: float
    ) -> list[Mapping[str, Any]]:
        """Return the answers of children, given as process id and slot.

        :param wait: seconds; who has not answered by then is told of as an error.
        """
        if ask.get("do") == "log_level":
            self._levels[str(ask.get("logger"))] = ask
        with self._changed:
            asked = {self._put(pid, slot, ask): pid for pid, slot in children}
            self._changed.wait_for(lambda: all(self._answers.get(one) for one in asked), wait)
            found: list[Mapping[str, Any]] = []
            for token, pid in asked.items():
                said = self._answers.pop(token, None)
                silent = {"pid": pid, "error": f"no answer within {wait:g} s"}
                found.append(msgspec.json.decode(said) if said else silent)
        return found

    def _put(self, pid: int, slot: Slot, ask: Mapping[str, Any]) -> int:
        self._token += 1
        self._answers[self._token] = None
        slot.ask(msgspec.json.encode((self._token, ask)))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, LOOK)
        return self._token

    def hear(self, child: Member, answers: Iterable[tuple[int, bytes]]) -> None:
        """Take a child's answers; those that nobody waits for are dropped."""
        with self._changed:
            for token, said in answers:
                if token in self._answers:
                    self._answers[token] = said
                elif token == child.greeting:
                    child.ready = True
            self._changed.notify_all()

    def greet(self, child: Member) -> None:
        """Have a new child know what was changed, before it is given its first task."""
        if child.greeted is not False or (self._levels and not child.pid):
            return  # it is not there, or was greeted, or cannot be asked yet
        child.greeted = True
        if not self._levels:
            child.ready = True
            return
        with self._changed:
            levels = list(self._levels.values())
            while True:
                try:
                    ask = {"do": "log_levels", "levels": levels}
                    child.greeting = self._put(child.pid, child.slot, ask)
                    break
                except ValueError:  # too many for one question: the newest count
                    levels = levels[1:]
            self._answers.pop(child.greeting)
