"""Workflows made of signatures: chain, group and chord.

Composition only: what a workflow is sent as is `kernel/plan.py`, who sends it the app.

Owns: chain, group, chord.  May import: kernel.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, Self

from celeriac.kernel import stamping
from celeriac.kernel.parts import Parts
from celeriac.kernel.signature import Signature, as_list, maybe_signature, signature
from celeriac.kernel.workflow import (
    Workflow,
    app_of,
    cloned,
    is_list,
    shown,
    without_repeats,
)


def _tasks_of(value: Any, app: Any) -> Any:
    """Return the tasks of a header or a group: a list, or `Parts` of a generator."""
    if isinstance(value, Mapping):
        value = maybe_signature(value, app=app)
        return value.tasks if isinstance(value, (group, _chain)) else [value]
    if isinstance(value, tuple):
        return tuple(maybe_signature(task, app=app) for task in value)
    if isinstance(value, list):
        return [maybe_signature(task, app=app) for task in value]
    if isinstance(value, Parts):
        return value
    return Parts(maybe_signature(task, app=app) for task in value)


@Signature.register_type("chain")
class _chain(Workflow):
    """Tasks that run one after the other, each with what the one before returned."""

    _kind = "chain"
    tasks = property(
        lambda self: self["kwargs"]["tasks"],
        lambda self, tasks: self["kwargs"].__setitem__("tasks", tasks),
    )

    def __init__(self, *tasks: Any, app: Any = None, **options: Any) -> None:
        if len(tasks) == 1 and is_list(tasks[0]):
            tasks = tuple(tasks[0])
        options.pop("use_link", None)
        made = [maybe_signature(task, app=app) for task in tasks]
        self._make({"tasks": made}, app, options)

    def _restore(self, app: Any) -> None:
        self.tasks = [maybe_signature(task, app=app) for task in self.tasks]

    def _inner_app(self) -> Any:
        return app_of(self.tasks)

    @classmethod
    def joined(cls, tasks: Iterable[Any], app: Any = None) -> Signature:
        """Return tasks as `X | Y | Z` makes them of each other: in one pass, whatever their number.

        A group that is followed by a task becomes a chord, one of a single task that task.
        """
        steps: list[Any] = []
        rest = iter(tasks)
        for task in rest:
            if not steps and isinstance(task, group) and isinstance(_unrolled(task), group):
                if not _is_empty(task):
                    return _after_group(task, rest, cls, app)
                continue
            _join(steps, task)
        return cls._of(steps, app)

    @classmethod
    def _of(cls, steps: list[Any], app: Any) -> Self:
        made = cls.__new__(cls)
        made._make({"tasks": steps}, app, {})
        return made

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Send it: the arguments are its first task's."""
        return self.apply_async(args, kwargs) if self.tasks else None

    def __or__(self, other: Any) -> Any:
        """Return a chain that goes on with `other`."""
        if not isinstance(other, Signature):
            return NotImplemented
        if not self.tasks and isinstance(other, group):
            return _unrolled(other)
        if isinstance(other, group) and _is_empty(other):
            return self
        steps = self.unchain_tasks()
        _join(steps, other)
        kept = {k: v for k, v in self["options"].items() if k not in ("link", "link_error")}
        made = type(self)._of(steps, self._app)
        made["options"].update(kept)
        return made

    def unchain_tasks(self) -> list[Any]:
        """Return copies of its tasks, with its own links on the last and its errbacks on each."""
        tasks: list[Any] = cloned(self.tasks)
        for errback in as_list(self["options"].get("link_error")):
            for task in tasks:
                task.link_error(errback)
        for callback in as_list(self["options"].get("link")):
            if tasks:
                tasks[-1].link(callback)
        return tasks

    def clone(self, args: Any = None, kwargs: Any = None, **options: Any) -> Self:
        """Return a copy; arguments are for its first task."""
        tasks = self.tasks
        copy = super().clone(args, None, **options)
        copy["kwargs"] = {**self["kwargs"], "tasks": cloned(tasks), **(kwargs or {})}
        return copy

    partial = clone

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Stamp every task in it."""
        found = visitor.on_chain_start(self, **headers) if visitor is not None else None
        own = stamping.stamps_of(self["options"])
        headers = stamping.merge(headers, found, own, append=append_stamps)
        self.stamp_links(visitor, append_stamps, **headers)
        for task in self.tasks:
            task.stamp(visitor, append_stamps, **headers)
        if visitor is not None:
            visitor.on_chain_end(self, **headers)

    def resume(self, result: Any = None) -> Any:
        """Go on from the step that failed, with what the one before it returned.

        The ids stay, so that a result that was kept from before is the result of this.

        :param result: of the run to go on with; that of this very object where None.
        :raises ValueError: it was never sent, or no step of it has failed.
        """
        return self.app.resume_canvas(self, result)

    def __repr__(self) -> str:
        if not self.tasks:
            return f"<{type(self).__name__}@{id(self):#x}: empty>"
        return without_repeats(self.tasks[0]["task"], " | ".join(repr(t) for t in self.tasks))

    def __reduce__(self) -> Any:
        return signature, (dict(self),)


class chain(_chain):
    """Tasks that run one after the other, each with what the one before returned.

    >>> chain(add.s(2, 2), add.s(4))  # doctest: +SKIP

    `chain(x, y)` is `x | y`, and so may be a chord.

    :param tasks: signatures, or one iterable of them.
    """

    def __new__(cls, *tasks: Any, **options: Any) -> Any:
        if not tasks or options:
            return super().__new__(cls)
        if len(tasks) == 1:
            if not is_list(tasks[0]):
                return super().__new__(cls)
            tasks = tuple(tasks[0])
            if not tasks:
                return super().__new__(cls)
        # Not of this class, so that __init__ is not called on what is made already.
        return (_chain if cls is chain else cls).joined(tasks)

    def __init__(self, *tasks: Any, app: Any = None, **options: Any) -> None:
        if "task" not in self:
            super().__init__(*tasks, app=app, **options)


def _is_empty(task: Any) -> bool:
    if not isinstance(task, group):
        return False
    tasks = task.tasks
    return (not isinstance(tasks, Parts) or tasks.listed) and not tasks


def _unrolled(task: Any) -> Any:
    """Return the only task of a group of one; anything else as it is."""
    if isinstance(task, group):
        tasks = task.tasks
        if (not isinstance(tasks, Parts) or tasks.listed) and len(tasks) == 1:
            only = tasks[0].clone()
            for key in ("link", "link_error"):
                for link in as_list(task["options"].get(key)):
                    only.append_to_list_option(key, link)
            return only
    return task


def _join(steps: list[Any], other: Any) -> None:
    """Add a task to the steps of a chain, by the rules of `|`."""
    other = maybe_signature(other)
    if isinstance(other, group):
        if _is_empty(other):
            return
        other = _unrolled(other)
    if isinstance(other, _chain):
        for task in other.unchain_tasks():
            _join(steps, task)
        return
    last: Any = steps[-1] if steps else None
    if isinstance(last, group) and not isinstance(other, group):
        steps[-1] = _chord(last, other.clone(), app=last._app)
    elif isinstance(last, _chord) and not isinstance(other, _chord) and last.body is not None:
        last["kwargs"] = {**last["kwargs"], "body": _longer(last.body, other)}
    else:
        steps.append(other if _is_lazy(other) else other.clone())


def _after_group(first: Any, rest: Any, kind: Any, app: Any) -> Signature:
    """Return what a group becomes of what follows it: a chord, or a chain that begins with one."""
    made: Any = first
    for other in rest:
        other = _unrolled(maybe_signature(other))
        if _is_empty(other):
            continue
        if made is first:
            made = _chord(first, other.clone(), app=first._app)
        elif isinstance(other, (group, _chain)):
            tasks = other.unchain_tasks() if isinstance(other, _chain) else [other.clone()]
            steps = [made, *tasks]
            for one in rest:
                _join(steps, one)
            chained: Signature = kind._of(steps, app)
            return chained
        else:
            made["kwargs"]["body"] = _longer(made.body, other)
    found: Signature = made
    return found


def _is_lazy(task: Any) -> bool:
    return isinstance(task, group) and isinstance(task.tasks, Parts)


def _longer(body: Any, other: Any) -> Any:
    """Return a chord's body that goes on with `other`.

    A chain gets one step more, in place and not nested: a thousand steps are not a thousand levels.
    """
    if not isinstance(body, _chain) or type(body) is not _chain:
        return body | other
    tasks = body.tasks
    last: Any = tasks[-1] if tasks else None
    if isinstance(last, group) and not isinstance(other, group):
        tasks[-1] = _chord(last, other.clone(), app=last._app)
    elif not isinstance(last, group):
        tasks.append(other.clone())
    else:
        return body | other
    return body


@Signature.register_type()
class group(Workflow):
    """Tasks that run side by side; its result is the list of theirs.

    >>> group(add.s(n, n) for n in range(10))  # doctest: +SKIP

    :param tasks: signatures, or one iterable of them; a generator is consumed when it is sent.
    :param max_concurrency: how many of them may run at a time.
    :param options: for each task.
    """

    _kind = "group"
    tasks = property(
        lambda self: self["kwargs"]["tasks"],
        lambda self, tasks: self["kwargs"].__setitem__("tasks", tasks),
    )

    def __init__(
        self, *tasks: Any, app: Any = None, max_concurrency: int | None = None, **options: Any
    ) -> None:
        found: Any = tasks
        if len(tasks) == 1:
            found = tasks[0]
            if isinstance(found, group):
                found = found.tasks
            elif isinstance(found, Mapping):
                found = [maybe_signature(found, app=app, clone=True)]
        if max_concurrency is not None:
            if max_concurrency < 1:
                raise ValueError(f"max_concurrency must be at least 1, not {max_concurrency}")
            options["max_concurrency"] = max_concurrency
        self._make({"tasks": _tasks_of(found, app)}, app, options)

    def _restore(self, app: Any) -> None:
        self.tasks = _tasks_of(self.tasks, app)

    def _inner_app(self) -> Any:
        return app_of(self.tasks)

    def __or__(self, other: Any) -> Any:
        """Return the chord with this as its header and `other` as its body."""
        if not isinstance(other, Signature):
            return NotImplemented
        if _is_empty(other):
            return self
        return _chord(self, other, app=self._app)

    def clone(self, args: Any = None, kwargs: Any = None, **options: Any) -> Self:
        """Return a copy, with copies of its tasks."""
        tasks = self.tasks
        copy = super().clone(args, None, **options)
        copy["kwargs"] = {**self["kwargs"], "tasks": cloned(tasks), **(kwargs or {})}
        return copy

    partial = clone

    def skew(self, start: float = 1.0, stop: float | None = None, step: float = 1.0) -> Self:
        """Give its tasks countdowns that grow from `start` by `step`, up to `stop`."""
        delays = itertools.count(float(start), step)
        for task in self.tasks:
            delay = next(delays)
            task.set(countdown=delay if stop is None else min(delay, stop))
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Make its tasks ignore (or not) the arguments that they are called with."""
        self._each(lambda task: task.set_immutable(immutable))

    def _each(self, change: Any) -> None:
        tasks = self.tasks
        if isinstance(tasks, Parts):
            tasks.each(change)
        else:
            for task in tasks:
                change(task)

    def link(self, callback: Any) -> Any:
        """Call `callback` after its first task: a group as a whole is followed by a chord's body."""
        return self.tasks[0].link(maybe_signature(callback).clone().set(immutable=True))

    def link_error(self, errback: Any) -> Any:
        """Call `errback` for each of its tasks that fails."""
        errback = maybe_signature(errback)
        if errback is not None:
            self._each(lambda task: task.link_error(errback.clone()))
        return errback

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Stamp every task in it."""
        found = visitor.on_group_start(self, **headers) if visitor is not None else None
        own = stamping.stamps_of(self["options"])
        headers = stamping.merge(headers, found, own, append=append_stamps)
        self.stamp_links(visitor, append_stamps, **headers)
        self._each(lambda task: task.stamp(visitor, append_stamps, **headers))
        if visitor is not None:
            visitor.on_group_end(self, **headers)

    def __len__(self) -> int:
        return len(self.tasks)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        if not self.tasks:
            return "group(<empty>)"
        return without_repeats(self.tasks[0]["task"], f"group({shown(self.tasks)!r})")


@Signature.register_type("chord")
class _chord(Workflow):
    """A header of tasks that run side by side, and a body that gets the list of their results.

    >>> chord([add.s(2, 2), add.s(4, 4)])(total.s())  # doctest: +SKIP

    :param header: a group, an iterable of signatures (a generator is consumed when it is sent), or
        one signature.
    :param body: called with the list once all have ended.
    :param on_error: "collect" calls the body though some failed: their exceptions take the places
        of their results.  Else a failure is the body's too: a ChordError, and its errbacks.
    :param options: for the header's tasks and the body.
    """

    _kind = "chord"
    tasks = property(
        lambda self: self["kwargs"]["header"],
        lambda self, tasks: self["kwargs"].__setitem__("header", tasks),
    )
    body = property(
        lambda self: self["kwargs"]["body"],
        lambda self, body: self["kwargs"].__setitem__("body", body),
    )

    def __init__(
        self,
        header: Any,
        body: Any = None,
        task: str = "celery.chord",
        args: Any = None,
        kwargs: Mapping[str, Any] | None = None,
        app: Any = None,
        on_error: Any = None,
        **options: Any,
    ) -> None:
        if on_error is not None:
            if on_error not in ("collect", "fail"):
                raise ValueError(f'on_error must be "collect" or "fail", not {on_error!r:.100}')
            options["on_error"] = on_error
        if isinstance(header, group) and header["options"].get("max_concurrency"):
            options.setdefault("max_concurrency", header["options"]["max_concurrency"])
        held = {**(kwargs or {"kwargs": {}}), "header": _tasks_of(header, app)}
        held["body"] = maybe_signature(body, app=app)
        self._make(held, app, {**options, "args": args})

    def _restore(self, app: Any) -> None:
        self.tasks = _tasks_of(self.tasks, app)
        self.body = maybe_signature(self["kwargs"].get("body"), app=app)

    def _inner_app(self) -> Any:
        found = app_of(self.tasks)
        return found if found is not None else app_of([self.body])

    def header_group(self) -> group:
        """Return the header as a group of the same tasks."""
        made = group.__new__(group)
        made._make({"tasks": self.tasks}, self._app, {})
        return made

    def __call__(self, body: Any = None, **options: Any) -> Any:
        """Send it, with `body` in the place of its own."""
        return self.apply_async((), {"body": body} if body is not None else None, **options)

    def __or__(self, other: Any) -> Any:
        """Return the chord whose body goes on with `other`; a chain before a group or a chain."""
        if not isinstance(other, Signature):
            return NotImplemented
        other = _unrolled(other)
        if isinstance(other, (group, _chain)) or self.body is None:
            tasks = other.unchain_tasks() if isinstance(other, _chain) else [other]
            return _chain._of([self, *tasks], self._app)
        copy = self.clone()
        copy.body = _longer(copy.body, other)
        return copy

    def clone(self, args: Any = None, kwargs: Any = None, **options: Any) -> Self:
        """Return a copy, with copies of its tasks and its body."""
        tasks, body = self.tasks, self.body
        copy = super().clone(args, None, **options)
        if not (isinstance(tasks, Parts) and not tasks.listed):
            tasks = cloned(tasks)
        copy["kwargs"] = {
            **self["kwargs"],
            "header": tasks,
            "body": body.clone() if body is not None else None,
            **(kwargs or {}),
        }
        return copy

    partial = clone

    def link(self, callback: Any) -> Any:
        """Call `callback` after the body."""
        self.body.link(callback)
        return callback

    def link_error(self, errback: Any) -> Any:
        """Call `errback` when the body fails, which it does where a task of the header did.

        With `task_allow_error_cb_on_chord_header` also for each of those tasks.
        """
        errback = maybe_signature(errback)
        tasks = self.header_group()
        if self.app.conf.task_allow_error_cb_on_chord_header:
            tasks._each(lambda task: task.link_error(errback.clone().set(immutable=True)))
        tasks._each(lambda task: task.link_error(errback) if isinstance(task, _chord) else None)
        self.body.link_error(errback)
        return errback

    def set_immutable(self, immutable: bool) -> None:
        """Make its header's tasks ignore (or not) the arguments that they are called with."""
        self.header_group().set_immutable(immutable)

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Stamp the tasks of the header, and the body."""
        found = visitor.on_chord_header_start(self, **headers) if visitor is not None else None
        own = stamping.stamps_of(self["options"])
        headers = stamping.merge(headers, found, own, append=append_stamps)
        self.stamp_links(visitor, append_stamps, **headers)
        self.header_group()._each(lambda task: task.stamp(visitor, append_stamps, **headers))
        if visitor is not None:
            visitor.on_chord_header_end(self, **headers)
        if self.body is not None:
            found = visitor.on_chord_body(self, **headers) if visitor is not None else None
            headers = stamping.merge(headers, found, None, append=append_stamps)
            self.body.stamp(visitor, append_stamps, **headers)

    def __length_hint__(self) -> int:
        return len(self.tasks)

    def __repr__(self) -> str:
        body, tasks = self.body, shown(self.tasks)
        if body is None:
            return f"<chord without body: {tasks!r}>"
        if isinstance(body, _chain) and body.tasks:
            first, *rest = body.tasks
            text = " | ".join([first.reprcall(tasks), *(repr(task) for task in rest)])
            return "%" + without_repeats(first["task"], f"({text})")
        return "%" + without_repeats(body["task"], body.reprcall(tasks))


chord = _chord
