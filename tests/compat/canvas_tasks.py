"""The tasks of the canvas behaviours, for either library; also the module that a worker loads.

The environment says which library and where the worker finds its broker: COMPAT_LIBRARY,
COMPAT_BROKER, COMPAT_BACKEND; COMPAT_NOTES is a folder in which tasks leave notes.

Owns: make_app, Tasks.
"""

from __future__ import annotations

import importlib
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def leave_note(folder: str, key: str, value: Any) -> None:
    """Append a line to the notes of `key`; whole, however many processes write."""
    line = json.dumps(value, default=repr) + "\n"
    handle = os.open(Path(folder, key), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def make_app(library: str, notes: str, **settings: Any) -> tuple[Any, SimpleNamespace]:
    """Return an app of `library` ("celery" or "celeriac") and its tasks by their short names."""
    package = importlib.import_module(library)
    errors = importlib.import_module(f"{library}.exceptions")
    app = package.Celery("compat", set_as_current=False, **settings)
    return app, _declare(package, errors, app, notes)


def _declare(package: Any, errors: Any, app: Any, notes: str) -> SimpleNamespace:
    tasks = SimpleNamespace()

    def task(fun: Any = None, **options: Any) -> Any:
        if fun is None:
            return lambda fun: task(fun, **options)
        made = app.task(name=f"c.{fun.__name__}", shared=False, **options)(fun)
        setattr(tasks, fun.__name__, made)
        return made

    @task
    def add(x: Any, y: Any) -> Any:
        return x + y

    @task
    def mul(x: Any, y: Any) -> Any:
        return x * y

    @task
    def total(numbers: Any) -> Any:
        return sum(numbers)

    @task
    def ident(x: Any) -> Any:
        return x

    @task
    def pack(*args: Any, **kwargs: Any) -> Any:
        return [list(args), kwargs]

    @task
    def fail(*args: Any, text: str = "boom") -> Any:
        raise ValueError(text)

    @task
    def note(*args: Any, key: str) -> Any:
        leave_note(notes, key, list(args))
        return args[0] if args else None

    @task
    def late_note(x: Any, key: str, seconds: float) -> Any:
        """Take `seconds`: the parts of a group then end in another order than they were sent."""
        time.sleep(seconds)
        leave_note(notes, key, x)
        return x

    @task
    def wait_for(key: str, lines: int) -> int:
        """Return once the notes of `key` have so many lines."""
        ends = time.monotonic() + 20
        while time.monotonic() < ends:
            path = Path(notes, key)
            if path.exists() and path.read_text().count("\n") >= lines:
                return lines
            time.sleep(0.01)
        raise AssertionError(f"{key} has no {lines} notes")

    @task
    def errback_old(task_id: Any, key: str = "") -> None:
        leave_note(notes, key, ["old", isinstance(task_id, str)])

    @task
    def errback_new(request: Any, exc: Any, traceback: Any, key: str = "") -> None:
        leave_note(
            notes, key, ["new", type(request).__name__ != "str", type(exc).__name__, str(exc)]
        )

    @task
    def errback_id(task_id: Any, key: str = "") -> None:
        leave_note(notes, key, task_id)

    @task(bind=True, max_retries=3)
    def retry_once(self: Any, x: Any, key: str = "") -> Any:
        if key:
            leave_note(notes, key, ["try", self.request.retries, x])
        if self.request.retries < 1:
            raise self.retry(countdown=0)
        return x

    @task(bind=True, max_retries=1)
    def retry_for_ever(self: Any, *args: Any) -> Any:
        raise self.retry(countdown=0, exc=ValueError("never"))

    @task(bind=True)
    def become(self: Any, *args: Any, into: Any) -> Any:
        """Replace this task with the signature in `into`."""
        return self.replace(package.signature(into, app=app))

    @task(bind=True)
    def become_add(self: Any, x: Any, y: Any) -> Any:
        return self.replace(add.s(x, y))

    @task(bind=True)
    def become_group(self: Any, x: Any) -> Any:
        return self.replace(package.group(add.s(x, 1), add.s(x, 2)))

    @task(bind=True)
    def become_empty(self: Any, *args: Any) -> Any:
        return self.replace(package.group([]))

    @task(bind=True)
    def become_failing(self: Any, *args: Any) -> Any:
        return self.replace(fail.s())

    @task(bind=True)
    def grow(self: Any, x: Any) -> Any:
        """Add a part to the chord that this is a part of."""
        self.add_to_chord(ident.s(100))
        return x

    @task(bind=True)
    def ignored(self: Any, *args: Any) -> Any:
        raise errors.Ignore

    @task(bind=True)
    def rejected(self: Any, *args: Any) -> Any:
        raise errors.Reject("no", requeue=False)

    @task
    def unserialisable(*args: Any) -> Any:
        return object()

    @task(bind=True)
    def facts(self: Any, *args: Any) -> Any:
        request = self.request
        return {
            "chain": len(request.chain or ()),
            "callbacks": len(request.callbacks or ()),
            "errbacks": len(request.errbacks or ()),
            "chord": bool(request.chord),
            "group": bool(request.group),
            "group_index": request.group_index,
        }

    @task(bind=True)
    def family(self: Any, *args: Any) -> Any:
        """Return ids: of this task, its root, its parent."""
        return [self.request.id, self.request.root_id, self.request.parent_id]

    @task(bind=True)
    def stamps(self: Any, *args: Any) -> Any:
        request = self.request
        return [
            dict(request.stamps or {}),
            sorted(request.stamped_headers or ()),
        ]

    @task(bind=True)
    def sender(self: Any, x: Any) -> Any:
        """Send another task and do not wait for it."""
        add.delay(x, x)
        return x

    @task(bind=True)
    def joiner(self: Any, x: Any) -> Any:
        """Wait for a group inside a task, with leave."""
        result_module = importlib.import_module(f"{package.__name__}.result")
        with result_module.allow_join_result():
            return package.group(add.si(x, i) for i in range(3))().get(timeout=10)

    @task(bind=True)
    def forbidden_joiner(self: Any, x: Any) -> Any:
        return add.delay(x, x).get(timeout=5)

    @task(typing=False)
    def untyped(x: Any) -> Any:
        return x

    return tasks


if "COMPAT_LIBRARY" in os.environ:
    app, _ = make_app(
        os.environ["COMPAT_LIBRARY"],
        os.environ["COMPAT_NOTES"],
        broker=os.environ["COMPAT_BROKER"],
        backend=os.environ["COMPAT_BACKEND"],
        worker_hijack_root_logger=False,
    )
