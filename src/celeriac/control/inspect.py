"""`app.control.inspect()`: asks workers; each answer is `{node name: value}`, or None for silence.

Owns: Inspect.  Thread rule: any thread.  May import: kernel, client, control.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Answer = dict[str, Any] | None


class Inspect:
    """Asks some workers.

    :param broadcast: as `Control.broadcast`.
    """

    def __init__(
        self,
        broadcast: Callable[..., Any],
        destination: Sequence[str] | str | None = None,
        timeout: float = 1.0,
        callback: Callable[[dict[str, Any]], Any] | None = None,
        *,
        limit: int | None = None,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> None:
        self._broadcast = broadcast
        self.destination = [destination] if isinstance(destination, str) else destination
        self.timeout, self.callback, self.limit = timeout, callback, limit
        self.pattern, self.matcher = pattern, matcher

    def request(self, command: str, timeout: float | None = None, **arguments: Any) -> Answer:
        """Ask anything, commands of the program's own too."""
        replies = self._broadcast(
            command,
            arguments,
            destination=self.destination,
            reply=True,
            timeout=self.timeout if timeout is None else timeout,
            limit=self.limit,
            callback=self.callback,
            pattern=self.pattern,
            matcher=self.matcher,
        )
        return {node: value for reply in replies or () for node, value in reply.items()} or None

    _request = request

    def ping(self, destination: Sequence[str] | None = None) -> Answer:
        """Ask who is there."""
        if destination:
            self.destination = list(destination)
        return self.request("ping")

    def active(self, safe: bool | None = None) -> Answer:
        """Ask what runs."""
        return self.request("active", safe=bool(safe))

    def reserved(self, safe: bool | None = None) -> Answer:
        """Ask what was claimed and waits for its turn."""
        return self.request("reserved")

    def scheduled(self, safe: bool | None = None) -> Answer:
        """Ask what is held until its time: nothing is, delayed tasks stay in the broker."""
        return self.request("scheduled")

    def revoked(self) -> Answer:
        """Ask for the ids of revoked tasks."""
        return self.request("revoked")

    def registered(self, *attributes: str) -> Answer:
        """Ask for the tasks that are known, with some of their attributes."""
        return self.request("registered", taskinfoitems=list(attributes))

    registered_tasks = registered

    def stats(self) -> Answer:
        """Ask for figures."""
        return self.request("stats")

    def conf(self, with_defaults: bool = False) -> Answer:
        """Ask for the settings, which come without secrets."""
        return self.request("conf", with_defaults=with_defaults)

    def report(self) -> Answer:
        """Ask for versions and settings, as text."""
        return self.request("report")

    def active_queues(self) -> Answer:
        """Ask for the queues that are consumed."""
        return self.request("active_queues")

    def query_task(self, *ids: Any) -> Answer:
        """Ask for tasks by their ids."""
        flat = ids[0] if len(ids) == 1 and isinstance(ids[0], (list, tuple)) else ids
        return self.request("query_task", ids=list(flat))

    def clock(self) -> Answer:
        """Ask for the clock."""
        return self.request("clock")

    def hello(self, from_node: str, revoked: Any = None) -> Answer:
        """Swap revocations, as Celery's workers do."""
        return self.request("hello", from_node=from_node, revoked=revoked)

    def memsample(self) -> Answer:
        """Have workers sample their memory."""
        return self.request("memsample", max(self.timeout, 3.0))

    def memdump(self, samples: int = 10) -> Answer:
        """Ask for what `memsample` has seen."""
        return self.request("memdump", max(self.timeout, 3.0), samples=samples)

    def objgraph(self, type: str = "Request", n: int = 200, max_depth: int = 10) -> Answer:
        """Ask for what celeriac's workers refuse; see `memsample` and `profile`."""
        return self.request("objgraph", num=n, max_depth=max_depth, type=type)

    def stack(self, task_id: str | None = None) -> Answer:
        """Ask for every thread and asyncio task, of one running task or of all."""
        return self.request("stack", max(self.timeout, 5.0), task_id=task_id)

    def profile(self, seconds: float = 5.0, task_id: str | None = None) -> Answer:
        """Have workers sample what runs for some seconds, and wait for it."""
        wait = max(self.timeout, seconds + 5.0)
        return self.request("profile", wait, seconds=seconds, task_id=task_id)
