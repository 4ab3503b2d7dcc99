"""Looks at the process in which it is called: stacks of threads and asyncio tasks, a profile, memory.

Owns: answer.  Thread rule: any thread.  May import: the standard library only.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from types import CodeType, FrameType
from typing import Any

RATE = 100
"""Samples of a profile in a second."""
LONGEST = 300.0
"""Seconds of the longest profile."""
SHOWN = 200
"""Stacks of a profile that are told, the most frequent first."""


def answer(
    ask: Mapping[str, Any], running: Mapping[int, str], *, on_a_loop: bool = False
) -> dict[str, Any]:
    """Return the answer of this process.

    :param ask: `do`: "stack", "profile" (with `seconds`), "log_level" (with `level`, `logger`),
        "log_levels" (`levels`, a list of those) or "memory"; `task_id`: only what belongs to that task.
    :param running: which task each thread runs.
    :param on_a_loop: others run on a loop of the pool's, so that one thread's is not the only one.
    """
    do, task_id = ask.get("do"), ask.get("task_id")
    head: dict[str, Any] = {"pid": os.getpid()}
    if do == "stack":
        return _stacks(head, running, task_id, on_a_loop)
    if do == "profile":
        return {**head, **_profile(float(ask.get("seconds", 5.0)), running, task_id)}
    if do == "log_level":
        logging.getLogger(ask.get("logger") or None).setLevel(ask["level"])
        return {**head, "level": ask["level"]}
    if do == "log_levels":
        for one in ask["levels"]:
            logging.getLogger(one.get("logger") or None).setLevel(one["level"])
        return head
    if do == "memory":
        return {**head, "rss": rss()}
    return {**head, "error": f"cannot {do!r}"}


def rss() -> int:
    """Return this process's resident memory in bytes."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _stacks(
    head: dict[str, Any], running: Mapping[int, str], task_id: Any, on_a_loop: bool
) -> dict[str, Any]:
    frames = sys._current_frames()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    own = threading.get_ident()
    alone = not on_a_loop and len(set(running.values())) == 1 and task_id in running.values()
    threads, coroutines = [], []
    for ident, frame in frames.items():
        task = running.get(ident)
        if ident != own and (task_id is None or task == task_id or alone):
            threads.append(
                {
                    "thread": names.get(ident, str(ident)),
                    "task": task,
                    "stack": _lines(traceback.extract_stack(frame)),
                }
            )
        for loop in _loops(frame):
            everything = task_id is None or alone or task == task_id
            now = asyncio.current_task(loop)  # it awaits nothing: its stack is the thread's
            coroutines += [
                {
                    "name": found.get_name(),
                    "stack": _lines(traceback.extract_stack(frame))
                    if found is now
                    else _awaits(found),
                }
                for found in _tasks(loop)
                if everything or found.get_name() == task_id
            ]
    if task_id is not None and not coroutines and task_id not in running.values():
        return {}
    return {**head, "threads": threads, "coroutines": coroutines}


def _lines(stack: traceback.StackSummary) -> list[str]:
    return [f"{f.filename}:{f.lineno} in {f.name}: {f.line or ''}".rstrip(": ") for f in stack]


def _loops(frame: FrameType | None) -> Iterator[asyncio.AbstractEventLoop]:
    """Return the event loops that run under a frame: the one place where each is named."""
    while frame is not None:
        if frame.f_code.co_name == "run_forever":
            loop = frame.f_locals.get("self")
            if isinstance(loop, asyncio.AbstractEventLoop):
                yield loop
        frame = frame.f_back


def _tasks(loop: asyncio.AbstractEventLoop) -> list[asyncio.Task[Any]]:
    for _ in range(3):
        try:
            return list(asyncio.all_tasks(loop))
        except RuntimeError:  # the loop's own thread made one meanwhile
            continue
    return []


def _current(loop: asyncio.AbstractEventLoop) -> str | None:
    """Return the name of the task that a loop runs at this moment; None while it waits."""
    task = asyncio.current_task(loop)
    return task.get_name() if task is not None else None


def _awaits(task: asyncio.Task[Any]) -> list[str]:
    """Return where a task is: its coroutine, what that awaits, and so on.

    An object that is awaited and drives a coroutine by hand, calling it `coroutine`, is looked
    through: time limits are thrown into tasks by such a one.
    """
    lines: list[str] = []
    inner: Any = task.get_coro()
    while inner is not None and len(lines) < 100:
        frame = getattr(inner, "cr_frame", None) or getattr(inner, "gi_frame", None)
        code: CodeType | None = getattr(inner, "cr_code", None) or getattr(inner, "gi_code", None)
        if frame is None or code is None:
            if not lines or not isinstance(inner, (str, bytes)):
                lines.append(f"awaits {type(inner).__name__}")
            break
        lines.append(f"{code.co_filename}:{frame.f_lineno} in {code.co_name}")
        driven = frame.f_locals.get("coroutine") if code.co_name == "__await__" else None
        inner = (
            getattr(inner, "cr_await", None)
            or getattr(inner, "gi_yieldfrom", None)
            or (driven if asyncio.iscoroutine(driven) else None)
        )
    return lines


def _profile(seconds: float, running: Mapping[int, str], task_id: Any) -> dict[str, Any]:
    """Sample the threads that run tasks, or a loop; all threads where none is known to."""
    counts: Counter[str] = Counter()
    own = threading.get_ident()
    ends = time.monotonic() + min(max(seconds, 0.01), LONGEST)
    samples = 0
    while True:
        for ident, frame in sys._current_frames().items():
            if ident == own:
                continue
            known, task = ident in running, running.get(ident)
            for loop in () if known else _loops(frame):
                known, task = True, _current(loop)
            if running and not known:
                continue
            if task_id is not None and (task or (None if known else task_id)) != task_id:
                continue
            counts[_folded(frame)] += 1
        samples += 1
        left = ends - time.monotonic()
        if left <= 0:
            break
        time.sleep(min(left, 1 / RATE))
    return {"samples": samples, "seconds": seconds, "stacks": dict(counts.most_common(SHOWN))}


def _folded(frame: FrameType | None) -> str:
    """Return a stack as flame graph tools read it: the outermost first, joined with semicolons."""
    names: list[str] = []
    while frame is not None and len(names) < 200:
        code = frame.f_code
        names.append(f"{code.co_qualname} ({os.path.basename(code.co_filename)}:{frame.f_lineno})")
        frame = frame.f_back
    return ";".join(reversed(names))
