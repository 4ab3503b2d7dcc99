"""The commands that ask a worker, with Celery's names and reply shapes.

Owns: the inspect commands.  May import: kernel, client, control.
"""

from __future__ import annotations

import importlib.metadata
import io
import platform
import sys
import time
from collections.abc import Sequence
from typing import Any

from celeriac.client.panel import CommandRefused, inspect_command
from celeriac.kernel.redact import censored

_samples: list[tuple[float, int]] = []
"""What `memsample` has seen: (unix seconds, bytes)."""


@inspect_command(default_timeout=1.0)
def ping(state: Any, **ignored: Any) -> dict[str, str]:
    """Answer."""
    return {"ok": "pong"}


@inspect_command(alias="dump_active", args=[("safe", bool)], signature="[safe=false]")
def active(state: Any, safe: bool = False, **ignored: Any) -> Any:
    """List the tasks that run."""
    return state.active(safe=safe)


@inspect_command(alias="dump_reserved")
def reserved(state: Any, **ignored: Any) -> Any:
    """List the tasks that were claimed and wait for their turn."""
    return state.reserved()


@inspect_command(alias="dump_schedule")
def scheduled(state: Any, **ignored: Any) -> Any:
    """List delayed tasks that this worker holds: none, they wait in the broker."""
    return []


@inspect_command(alias="dump_revoked")
def revoked(state: Any, **ignored: Any) -> Any:
    """List the ids of revoked tasks."""
    return state.worker.revoked.ids()


@inspect_command(alias="dump_tasks", variadic="taskinfoitems", signature="[attr1 [attr2 ...]]")
def registered(
    state: Any, taskinfoitems: Sequence[str] | None = None, builtins: bool = False, **ignored: Any
) -> list[str]:
    """List the tasks that are known, with the attributes asked for."""
    wanted = [
        item
        for item in taskinfoitems or ("exchange", "routing_key", "rate_limit")
        if not item.startswith("_")
    ]
    tasks = state.app.tasks
    names = sorted(tasks if builtins else tasks.regular())
    found = []
    for name in names:
        values = {item: getattr(tasks[name], item, None) for item in wanted}
        told = " ".join(f"{key}={value}" for key, value in values.items() if value is not None)
        found.append(f"{name} [{told}]" if told else name)
    return found


@inspect_command()
def stats(state: Any, **ignored: Any) -> Any:
    """Tell figures of the worker."""
    return state.stats()


@inspect_command(
    alias="dump_conf", args=[("with_defaults", bool)], signature="[include_defaults=False]"
)
def conf(state: Any, with_defaults: bool = False, **ignored: Any) -> dict[str, Any]:
    """Show the settings, without secrets."""
    table = state.app.conf.table(with_defaults=with_defaults)
    return {name: censored(name, value) for name, value in table.items()}


@inspect_command()
def report(state: Any, **ignored: Any) -> dict[str, str]:
    """Tell versions and settings, for a bug report."""
    lines = [
        f"software -> celeriac:{importlib.metadata.version('celeriac')} py:{platform.python_version()}",
        f"platform -> system:{platform.system()} {platform.machine()} imp:{sys.implementation.name}",
        f"transport -> {state.app.broker_url.partition(':')[0]}",
        "",
        *(f"{name}: {value!r}" for name, value in conf(state).items()),
    ]
    return {"ok": "\n".join(lines)}


@inspect_command()
def active_queues(state: Any, **ignored: Any) -> list[dict[str, Any]]:
    """List the queues that are consumed."""
    return [
        {
            "name": queue.name,
            "exchange": {
                "name": queue.way[0],
                "type": queue.exchange_type,
                "durable": queue.exchange.durable,
            },
            "routing_key": queue.way[1],
            "durable": queue.durable,
            "exclusive": queue.exclusive,
            "auto_delete": queue.auto_delete,
            "paused": queue.name in state.paused,
        }
        for queue in state.worker.queues
    ]


@inspect_command(variadic="ids", signature="[id1 [id2 ...]]")
def query_task(state: Any, ids: Sequence[str] | str, **ignored: Any) -> Any:
    """Tell what is known of tasks by their ids."""
    return state.query([ids] if isinstance(ids, str) else ids)


@inspect_command()
def clock(state: Any, **ignored: Any) -> dict[str, int]:
    """Tell the logical clock: celeriac has none, it is always 1."""
    return {"clock": 1}


@inspect_command(visible=False)
def hello(
    state: Any, from_node: str = "", revoked: Any = None, **ignored: Any
) -> dict[str, Any] | None:
    """Swap revocations with a worker that starts."""
    if from_node == state.hostname:
        return None
    if isinstance(revoked, (list, dict)):
        state.worker.revoked.add([one for one in revoked if isinstance(one, str)])
    return {"revoked": state.worker.revoked.ids(), "clock": 1}


def _memory(state: Any) -> int:
    answers = state.worker.pool.look({"do": "memory"}, wait=2.0)
    own: int = sum(one.get("rss", 0) for one in answers)
    if state.worker.pool.traits.isolates:
        with open("/proc/self/statm") as file:
            own += int(file.read().split()[1]) * 4096
    return own


@inspect_command()
def memsample(state: Any, **ignored: Any) -> str:
    """Sample the resident memory of the worker and its processes."""
    size = _memory(state)
    _samples.append((time.time(), size))
    del _samples[:-1000]
    return f"{size / 1024 / 1024:.1f}MB"


@inspect_command(args=[("samples", int)], signature="[n_samples=10]")
def memdump(state: Any, samples: int = 10, **ignored: Any) -> str:
    """Show what `memsample` has seen."""
    if not _samples:
        memsample(state)
    out = io.StringIO()
    out.write("- rss (sample):\n")
    for at, size in _samples[-max(1, samples) :]:
        out.write(
            f"-  > {time.strftime('%H:%M:%S', time.gmtime(at))}Z {size / 1024 / 1024:.1f}MB\n"
        )
    out.write(f"- rss (end): {_memory(state) / 1024 / 1024:.1f}MB.\n")
    return out.getvalue()


@inspect_command(visible=False)
def objgraph(state: Any, **ignored: Any) -> Any:
    """Refuse: see `memsample`."""
    raise CommandRefused(
        "objgraph draws a picture into the worker's own file system, and is not offered: "
        "see memsample, stack and profile"
    )


@inspect_command(args=[("task_id", str)], signature="[task_id]", default_timeout=5.0, slow=True)
def stack(state: Any, task_id: str | None = None, **ignored: Any) -> Any:
    """Show every thread and asyncio task, of one running task or of all."""
    running = {one.task_id for one in state.worker.pool.running()}
    if task_id is not None and task_id not in running:
        return []
    found = state.worker.pool.look({"do": "stack", "task_id": task_id}, wait=3.0)
    by_pid: dict[int, list[str]] = {}
    for one in state.worker.pool.running():
        by_pid.setdefault(one.pid, []).append(one.task_id)
    return [{**one, "tasks": by_pid.get(one["pid"], [])} for one in found]


@inspect_command(
    args=[("seconds", float), ("task_id", str)],
    signature="[seconds=5 [task_id]]",
    default_timeout=10.0,
    slow=True,
)
def profile(state: Any, seconds: float = 5.0, task_id: str | None = None, **ignored: Any) -> Any:
    """Sample what runs for some seconds; stacks as flame graph tools read them, with counts."""
    ask = {"do": "profile", "seconds": seconds, "task_id": task_id}
    return state.worker.pool.look(ask, wait=seconds + 3.0)
