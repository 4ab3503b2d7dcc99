"""`app.control`: tells workers what to do, and asks them.

Owns: Control.  Thread rule: any thread.  May import: kernel, ports, client, control.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celeriac.client.endings import withdraw
from celeriac.control.address import check_pattern
from celeriac.control.changes import stamps_of
from celeriac.control.inbox import TOPIC
from celeriac.control.inspect import Inspect
from celeriac.kernel.errors import BrokerRejected, CapabilityMissing
from celeriac.kernel.ids import uuid
from celeriac.ports.orders import Order

logger = logging.getLogger("celeriac.control")

Replies = list[dict[str, Any]]

KEPT_FOR = 10_800.0
"""Seconds that a revocation is kept for workers that start later."""


class Control:
    """Remote control of an app's workers.

    :param app: whose bus is used.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    def broadcast(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        destination: Sequence[str] | str | None = None,
        connection: Any = None,
        reply: bool = False,
        timeout: float = 1.0,
        limit: int | None = None,
        callback: Callable[[dict[str, Any]], Any] | None = None,
        channel: Any = None,
        pattern: str | None = None,
        matcher: str | None = None,
        **ignored: Any,
    ) -> Replies | None:
        """Send a command to all workers, to those in `destination`, or to those `pattern` matches.

        :param reply: wait for replies, up to `timeout` seconds; who was silent is logged.
        :param limit: end the wait after so many replies; as many as `destination` where None.
        :param callback: called with each reply as it comes.
        :param matcher: "glob" (the default) or "pcre", of `pattern`.
        :return: a list of {node name: value} with `reply`, else None.
        :raises ImproperlyConfigured: the matcher or the pattern is wrong.
        """
        check_pattern(pattern, matcher)
        if isinstance(destination, str):
            destination = destination.split(",")
        ticket = uuid()
        message: dict[str, Any] = {
            "method": command,
            "arguments": dict(arguments or {}),
            "destination": list(destination) if destination else None,
            "pattern": pattern,
            "matcher": matcher,
            "ticket": ticket,
            "expires": time.time() + max(timeout, 60.0),
        }
        bus = self._app.bus
        if not (reply or callback):
            bus.send(TOPIC, [json.dumps(message).encode()])
            return None
        message["reply_to"] = topic = f"reply.{ticket}"
        limit = limit or (len(destination) if destination else None)
        subscription = bus.subscribe([topic])
        found: Replies = []
        try:
            bus.send(TOPIC, [json.dumps(message).encode()])
            ends = time.monotonic() + timeout
            while (left := ends - time.monotonic()) > 0 and (limit is None or len(found) < limit):
                for _, body in subscription.poll(left):
                    one = json.loads(body)["reply"]
                    found.append(one)
                    if callback is not None:
                        callback(one)
        finally:
            subscription.close()
        self._tell_silent(command, destination, timeout, found, limit)
        return found

    def _tell_silent(
        self,
        command: str,
        destination: Sequence[str] | None,
        timeout: float,
        found: Replies,
        limit: int | None,
    ) -> None:
        heard = {node for one in found for node in one}
        silent = [node for node in destination or () if node not in heard]
        if silent and len(found) < (limit or len(silent)):
            logger.warning("%s: no answer within %g s from %s", command, timeout, ", ".join(silent))
        elif not found:
            logger.warning("%s: no worker answered within %g s", command, timeout)

    def ping(
        self, destination: Sequence[str] | None = None, timeout: float = 1.0, **options: Any
    ) -> Replies:
        """Return who answers: `[{node name: {"ok": "pong"}}, ...]`."""
        options.update(destination=destination, timeout=timeout, reply=True)
        return self.broadcast("ping", **options) or []

    # -- revoking -------------------------------------------------------------------------------

    def revoke(
        self,
        task_id: str | Sequence[str],
        destination: Sequence[str] | None = None,
        terminate: bool = False,
        signal: str | int = "SIGTERM",
        **options: Any,
    ) -> Replies | None:
        """Keep tasks from starting; with `terminate`, end those that run.

        What waits is taken back, where the broker can, and becomes REVOKED.  Without `destination`
        the order stands for three hours, for workers that are away or start later.
        """
        ids = [task_id] if isinstance(task_id, str) else list(task_id)
        left = ids
        if destination is None and not options.get("pattern"):
            taken = self.keep_revoked(ids)
            # Asked for a reply, the caller gets one, though nothing may be left to do.
            left = ids if options.get("reply") else [one for one in ids if one not in taken]
        if not left:
            return None
        arguments: dict[str, Any] = {"task_id": left, "terminate": terminate}
        if terminate:
            arguments["signal"] = signal
        return self.broadcast("revoke", arguments, destination, **options)

    def keep_revoked(self, ids: Sequence[str]) -> set[str]:
        """Write down for the fleet that tasks are revoked, and take back what waits; return which."""
        until = time.time() + KEPT_FOR
        self._order_if_kept([Order("revoke", one, expires_at=until) for one in ids])
        return withdraw(self._app, ids)

    def _order_if_kept(self, orders: Sequence[Order]) -> None:
        try:
            self._order(orders)
        except BrokerRejected as error:
            logger.warning(
                "the revocation is not kept, and reaches only workers that listen now: %s", error
            )

    def _order(self, orders: Sequence[Order]) -> bool:
        kept = self._app.orders
        if kept is not None:
            kept.give(orders)
        return kept is not None

    def revoke_by_stamped_headers(
        self,
        headers: Mapping[str, Any],
        destination: Sequence[str] | None = None,
        terminate: bool = False,
        signal: str | int = "SIGTERM",
        **options: Any,
    ) -> Replies | None:
        """Keep tasks that have these stamps from starting: `{header: stamp or list of them}`."""
        stamps = stamps_of(headers)
        if destination is None and not options.get("pattern"):
            until = time.time() + KEPT_FOR
            pairs = [
                f"{header}={one}"
                for header, value in stamps.items()
                for one in (value if isinstance(value, (list, tuple, set)) else (value,))
            ]
            self._order_if_kept([Order("stamp", pair, expires_at=until) for pair in pairs])
        arguments = {"headers": stamps, "terminate": terminate, "signal": signal}
        return self.broadcast("revoke_by_stamped_headers", arguments, destination, **options)

    def terminate(
        self,
        task_id: str | Sequence[str],
        destination: Sequence[str] | None = None,
        signal: str | int = "SIGTERM",
        **options: Any,
    ) -> Replies | None:
        """End tasks that run, and keep those that wait from starting."""
        return self.revoke(task_id, destination, terminate=True, signal=signal, **options)

    # -- queues ---------------------------------------------------------------------------------

    def pause(self, queue: str, **options: Any) -> Replies | None:
        """Stop every worker taking tasks from a queue, those that start later too.

        Publishing goes on; what runs is finished.

        :raises CapabilityMissing: neither the broker nor the result store can keep the order.
        """
        return self._pause(queue, "1", "pause", options)

    def resume(self, queue: str, **options: Any) -> Replies | None:
        """Let workers take tasks from a queue again."""
        return self._pause(queue, "", "resume", options)

    def _pause(
        self, queue: str, value: str, command: str, options: dict[str, Any]
    ) -> Replies | None:
        if not self._order([Order("pause", queue, value)]):
            raise CapabilityMissing(
                f"{command} needs a broker or result store that keeps standing orders: "
                "sqlite, redis or memory"
            )
        return self.broadcast(command, {"queue": queue}, **options)

    def paused(self) -> list[str]:
        """Return the queues that are paused."""
        kept = self._app.orders
        if kept is None:
            return []
        return sorted(o.key for o in kept.since(0)[1] if o.kind == "pause" and o.value)

    def add_consumer(
        self,
        queue: str,
        exchange: str | None = None,
        exchange_type: str = "direct",
        routing_key: str | None = None,
        options: Mapping[str, Any] | None = None,
        destination: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> Replies | None:
        """Have workers consume one queue more."""
        arguments = {
            "queue": queue,
            "exchange": exchange,
            "exchange_type": exchange_type,
            "routing_key": routing_key,
            **(options or {}),
        }
        return self.broadcast("add_consumer", arguments, destination, **kwargs)

    def cancel_consumer(
        self, queue: str, destination: Sequence[str] | None = None, **kwargs: Any
    ) -> Replies | None:
        """Have workers consume one queue less."""
        return self.broadcast("cancel_consumer", {"queue": queue}, destination, **kwargs)

    # -- tasks ----------------------------------------------------------------------------------

    def rate_limit(
        self,
        task_name: str,
        rate_limit: str | float,
        destination: Sequence[str] | None = None,
        **options: Any,
    ) -> Replies | None:
        """Limit how often a task may start on each worker: "10/s", "5/m", "100/h"."""
        arguments = {"task_name": task_name, "rate_limit": rate_limit}
        return self.broadcast("rate_limit", arguments, destination, **options)

    def time_limit(
        self,
        task_name: str,
        soft: float | None = None,
        hard: float | None = None,
        destination: Sequence[str] | None = None,
        **options: Any,
    ) -> Replies | None:
        """Change the time limits of a task, seconds."""
        arguments = {"task_name": task_name, "hard": hard, "soft": soft}
        return self.broadcast("time_limit", arguments, destination, **options)

    # -- pools and workers ----------------------------------------------------------------------

    def pool_grow(
        self, n: int = 1, destination: Sequence[str] | None = None, **options: Any
    ) -> Replies | None:
        """Have the pools run `n` tasks more at a time."""
        return self.broadcast("pool_grow", {"n": n}, destination, **options)

    def pool_shrink(
        self, n: int = 1, destination: Sequence[str] | None = None, **options: Any
    ) -> Replies | None:
        """Have the pools run `n` tasks fewer at a time."""
        return self.broadcast("pool_shrink", {"n": n}, destination, **options)

    def pool_restart(
        self,
        modules: Sequence[str] | None = None,
        reload: bool = False,
        reloader: Any = None,
        destination: Sequence[str] | None = None,
        **options: Any,
    ) -> Replies | None:
        """Replace the pools' processes, each when its task has ended."""
        arguments = {"modules": modules, "reload": reload}
        return self.broadcast("pool_restart", arguments, destination, **options)

    def autoscale(
        self, max: int, min: int, destination: Sequence[str] | None = None, **options: Any
    ) -> Replies | None:
        """Change the bounds of the pools' sizes."""
        return self.broadcast("autoscale", {"max": max, "min": min}, destination, **options)

    def enable_events(
        self, destination: Sequence[str] | None = None, **options: Any
    ) -> Replies | None:
        """Have workers send task events."""
        return self.broadcast("enable_events", {}, destination, **options)

    def disable_events(
        self, destination: Sequence[str] | None = None, **options: Any
    ) -> Replies | None:
        """Have workers send no task events."""
        return self.broadcast("disable_events", {}, destination, **options)

    def heartbeat(self, destination: Sequence[str] | None = None, **options: Any) -> Replies | None:
        """Have workers send a heartbeat now."""
        return self.broadcast("heartbeat", {}, destination, **options)

    def log_level(
        self,
        level: str,
        logger: str | None = None,
        destination: Sequence[str] | None = None,
        **options: Any,
    ) -> Replies | None:
        """Change the level of the workers' log, or of one logger."""
        return self.broadcast(
            "log_level", {"level": level, "logger": logger}, destination, **options
        )

    def election(self, id: str, topic: str, action: Any = None, connection: Any = None) -> None:
        """Send Celery's command, which celeriac's workers take and do nothing about."""
        self.broadcast("election", {"id": id, "topic": topic, "action": action})

    def shutdown(self, destination: Sequence[str] | None = None, **options: Any) -> Replies | None:
        """End workers, warm."""
        return self.broadcast("shutdown", {}, destination, **options)

    def purge(self, connection: Any = None) -> int:
        """Drop what waits in the declared queues; return how many."""
        broker = self._app.broker
        return sum(broker.purge(name) for name in broker.count(()))

    discard_all = purge

    def inspect(
        self,
        destination: Sequence[str] | str | None = None,
        timeout: float = 1.0,
        callback: Callable[[dict[str, Any]], Any] | None = None,
        connection: Any = None,
        app: Any = None,
        limit: int | None = None,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> Inspect:
        """Return what asks workers."""
        return Inspect(
            self.broadcast,
            destination,
            timeout,
            callback,
            limit=limit,
            pattern=pattern,
            matcher=matcher,
        )
