"""The commands that change a worker, with Celery's names and reply shapes.

Owns: the control commands.  May import: kernel, client, control.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from celeriac.client.panel import CommandRefused, control_command
from celeriac.kernel.entities import Exchange, Queue
from celeriac.kernel.errors import ImproperlyConfigured
from celeriac.kernel.rate import parse_rate

logger = logging.getLogger("celeriac.control")

MOST_IDS = 10_000
"""Ids in one command."""


def _ids(task_id: Any) -> list[str]:
    ids = [task_id] if isinstance(task_id, str) else task_id
    if not isinstance(ids, (list, tuple)) or not all(isinstance(one, str) for one in ids):
        raise CommandRefused("task_id is an id or a list of ids")
    if len(ids) > MOST_IDS:
        raise CommandRefused(f"{len(ids)} ids in one command: at most {MOST_IDS}")
    return list(dict.fromkeys(ids))


@control_command(variadic="task_id", signature="[id1 [id2 ...]]")
def revoke(
    state: Any, task_id: Any, terminate: bool = False, signal: Any = None, **ignored: Any
) -> dict[str, str]:
    """Keep tasks from starting; with `terminate`, end those that run."""
    ids = _ids(task_id)
    here = state.revoke(ids, terminate=terminate, signal=signal or "SIGTERM")
    if terminate:
        return _terminated(state, here)
    return {"ok": f"tasks {', '.join(ids)} flagged as revoked"}


def _terminated(state: Any, here: list[str]) -> dict[str, str]:
    traits = state.worker.pool.traits
    left = () if traits.isolates else sorted(set(here) & set(state.running()))
    if left:
        return {
            "error": f"the {traits.name} pool cannot end a task that runs ({', '.join(left)} goes on): "
            "use -P prefork; a retry of it will not run"
        }
    return {"ok": f"terminate: {', '.join(here) if here else 'tasks unknown'}"}


@control_command(variadic="task_id", args=[("signal", str)], signature="<signal> [id1 [id2 ...]]")
def terminate(state: Any, signal: Any, task_id: Any, **ignored: Any) -> dict[str, str]:
    """End tasks that run, with a signal."""
    return revoke(state, task_id, terminate=True, signal=signal)


@control_command(variadic="headers", signature="[key1=value1 [key2=value2 ...]]")
def revoke_by_stamped_headers(
    state: Any, headers: Any, terminate: bool = False, signal: Any = None, **ignored: Any
) -> dict[str, str]:
    """Keep tasks with these stamps from starting; with `terminate`, end those that run."""
    stamps = stamps_of(headers)
    here = state.revoke_stamps(stamps, terminate=terminate, signal=signal or "SIGTERM")
    if not terminate:
        return {"ok": f"headers {stamps} flagged as revoked, but not terminated"}
    return {"ok": f"headers {stamps} {'revoked' if here else 'were not terminated'}"}


def stamps_of(headers: Any) -> dict[str, Any]:
    """Return stamps by header of a mapping, or of a list of "key=value".

    :raises CommandRefused: it is neither.
    """
    if isinstance(headers, Mapping):
        return dict(headers)
    if isinstance(headers, (list, tuple)) and all(isinstance(h, str) and "=" in h for h in headers):
        found: dict[str, Any] = {}
        for one in headers:
            key, _, value = one.partition("=")
            found.setdefault(key, []).append(value)
        return found
    raise CommandRefused("headers is {header: stamp or list of stamps}")


@control_command(
    args=[("task_name", str), ("rate_limit", str)],
    signature="<task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>",
)
def rate_limit(
    state: Any, task_name: str, rate_limit: Any = None, **ignored: Any
) -> dict[str, str]:
    """Limit how often a task may start on each worker."""
    try:
        rate = parse_rate(rate_limit)
    except ImproperlyConfigured as error:
        return {"error": f"Invalid rate limit string: {error}"}
    task = state.task(task_name)
    if task is None:
        return {"error": "unknown task"}
    task.rate_limit = rate_limit
    state.worker.rates.limit(task_name, rate_limit)
    return {"ok": "new rate limit set successfully" if rate else "rate limit disabled successfully"}


@control_command(
    args=[("task_name", str), ("soft", float), ("hard", float)],
    signature="<task_name> <soft_secs> [hard_secs]",
)
def time_limit(
    state: Any, task_name: str = "", hard: Any = None, soft: Any = None, **ignored: Any
) -> dict[str, str]:
    """Change the time limits of a task, for runs that begin from now on."""
    if state.task(task_name) is None:
        return {"error": "unknown task"}
    for value in (hard, soft):
        if value is not None and not (isinstance(value, (int, float)) and value > 0):
            return {"error": f"a time limit is a number of seconds, not {value!r}"}
    traits = state.worker.pool.traits
    if (hard and not traits.stops_hard) or (soft and not traits.stops_soft):
        return {"error": f"the {traits.name} pool cannot keep time limits"}
    state.worker.new_limits.set(task_name, hard, soft)
    return {"ok": "time limits set successfully"}


@control_command(
    args=[("queue", str), ("exchange", str), ("exchange_type", str), ("routing_key", str)],
    signature="<queue> [exchange [type [routing_key]]]",
)
def add_consumer(
    state: Any,
    queue: Any,
    exchange: str | None = None,
    exchange_type: str | None = None,
    routing_key: str | None = None,
    **options: Any,
) -> dict[str, str]:
    """Consume one queue more.

    :param options: of `Queue`, such as `queue_arguments`.
    """
    if not isinstance(queue, str) or not queue:
        raise CommandRefused("queue is a name")
    try:
        made = Exchange(exchange or queue, exchange_type or "direct")
        state.add_queue(Queue(queue, made, routing_key or "", **options))
    except (ImproperlyConfigured, TypeError) as error:
        raise CommandRefused(str(error)) from error
    return {"ok": f"add consumer {queue}"}


@control_command(args=[("queue", str)], signature="<queue>")
def cancel_consumer(state: Any, queue: str, **ignored: Any) -> dict[str, str]:
    """Consume one queue less."""
    state.cancel_queue(queue)
    return {"ok": f"no longer consuming from {queue}"}


@control_command(args=[("queue", str)], signature="<queue>", name="pause")
def pause(state: Any, queue: Any, **ignored: Any) -> dict[str, str]:
    """Stop the whole fleet taking tasks from a queue, workers that start later too."""
    return {"ok": f"queue {queue} paused"}


@control_command(args=[("queue", str)], signature="<queue>", name="resume")
def resume(state: Any, queue: Any, **ignored: Any) -> dict[str, str]:
    """Let the fleet take tasks from a queue again."""
    return {"ok": f"queue {queue} resumed"}


def _by(n: Any) -> int:
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise CommandRefused(f"n is a number from 1 on, not {n!r}")
    return n


@control_command(args=[("n", int)], signature="[N=1]")
def pool_grow(state: Any, n: int = 1, **ignored: Any) -> dict[str, str]:
    """Have the pool run more tasks at a time."""
    if state.autoscaler is not None:
        return {"error": "pool_grow is not supported with autoscale: change its range instead"}
    state.resize(state.worker.pool.size() + _by(n))
    return {"ok": "pool will grow"}


@control_command(args=[("n", int)], signature="[N=1]")
def pool_shrink(state: Any, n: int = 1, **ignored: Any) -> dict[str, str]:
    """Have the pool run fewer tasks at a time, one at least."""
    if state.autoscaler is not None:
        return {"error": "pool_shrink is not supported with autoscale: change its range instead"}
    state.resize(max(1, state.worker.pool.size() - _by(n)))
    return {"ok": "pool will shrink"}


@control_command()
def pool_restart(
    state: Any, modules: Any = None, reload: bool = False, reloader: Any = None, **ignored: Any
) -> dict[str, str]:
    """Replace the pool's processes, each when its task has ended."""
    restart = getattr(state.worker.pool, "restart", None)
    if restart is None:
        return {"error": f"the {state.worker.pool.traits.name} pool has no processes to replace"}
    if modules or reload:
        return {"error": "code is not reloaded in a running worker: restart the worker"}
    restart()
    return {"ok": "reload started"}


@control_command(args=[("max", int), ("min", int)], signature="[max [min]]")
def autoscale(state: Any, max: int | None = None, min: int | None = None) -> dict[str, str]:
    """Change the bounds of the pool's size."""
    most, least = state.autoscale(max, min)
    return {"ok": f"autoscale now max={most} min={least}"}


@control_command()
def enable_events(state: Any, **ignored: Any) -> dict[str, str]:
    """Send task events."""
    return _events(state, True)


@control_command()
def disable_events(state: Any, **ignored: Any) -> dict[str, str]:
    """Send no task events."""
    return _events(state, False)


def _events(state: Any, on: bool) -> dict[str, str]:
    # `worker.events` is the emitter: `enabled`, a flag, is all that is asked of it here.
    emitter = getattr(state.worker, "events", None)
    if emitter is None:
        return {"error": "event dispatcher unavailable"}
    word = "enabled" if on else "disabled"
    if emitter.enabled is on:
        return {"ok": f"task events already {word}"}
    emitter.enabled = on
    return {"ok": f"task events {word}"}


@control_command()
def heartbeat(state: Any, **ignored: Any) -> None:
    """Send a heartbeat now."""
    beat = getattr(getattr(state.worker, "events", None), "heartbeat", None)
    if beat is not None:
        beat()


@control_command(visible=False)
def election(
    state: Any, id: Any = None, topic: Any = None, action: Any = None, **ignored: Any
) -> None:
    """Do nothing: celeriac's workers elect nobody."""


@control_command()
def shutdown(state: Any, msg: str = "", **ignored: Any) -> dict[str, str]:
    """End the worker, warm."""
    logger.warning("%s", str(msg)[:200] or "shutdown was asked for by remote control")
    state.worker.stop("warm")
    return {"ok": "shutting down"}


@control_command(
    args=[("level", str), ("logger", str)], signature="<DEBUG|INFO|...> [logger]", slow=True
)
def log_level(state: Any, level: str, logger: str | None = None, **ignored: Any) -> dict[str, str]:
    """Change the level of the log, or of one logger, in every process of the worker."""
    number = logging.getLevelNamesMapping().get(str(level).upper())
    if number is None:
        return {"error": f"no level is called {level!r}: DEBUG, INFO, WARNING, ERROR, CRITICAL"}
    logging.getLogger(logger or None).setLevel(number)
    state.worker.pool.look({"do": "log_level", "level": number, "logger": logger or ""}, wait=2.0)
    return {"ok": f"level of {logger or 'the log'} is {str(level).upper()}"}
