"""A call that is not made yet: a task's name, its arguments and options, as data.

A dict with Celery's keys, so that it goes through JSON and either side reads the other's.

Owns: Signature.  May import: kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celeriac.kernel.ids import uuid


class Signature(dict[str, Any]):
    """A task call as data.

    :param task: a task, its name, or a mapping of the same form.
    :param app: who sends it; found from the task, or given by the one who calls.
    """

    app: Any

    def __init__(
        self,
        task: Any = None,
        args: Any = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        type: Any = None,  # noqa: A002 - Celery's name
        subtask_type: str | None = None,
        immutable: bool = False,
        app: Any = None,
        **ex: Any,
    ) -> None:
        if isinstance(task, Mapping):
            super().__init__(task)
            self.setdefault("subtask_type", None)
            self.setdefault("immutable", False)
        else:
            super().__init__(
                task=task if isinstance(task, str) else getattr(task, "name", task),
                args=tuple(args or ()),
                kwargs=dict(kwargs or {}),
                options={**(options or {}), **ex},
                subtask_type=subtask_type,
                immutable=immutable,
            )
        self.app = app if app is not None else getattr(type or task, "_app", None)

    task = property(lambda self: self["task"])
    name = property(lambda self: self["task"])
    args = property(lambda self: self["args"])
    kwargs = property(lambda self: self["kwargs"])
    options = property(lambda self: self["options"])
    subtask_type = property(lambda self: self["subtask_type"])
    immutable = property(lambda self: self["immutable"])

    @property
    def id(self) -> str | None:
        """The task id that it will have, where one is fixed."""
        found: str | None = self["options"].get("task_id")
        return found

    @property
    def type(self) -> Any:
        """The task itself, of the signature's app."""
        return self._app().tasks[self["task"]]

    def _app(self) -> Any:
        if self.app is None:
            raise RuntimeError(f"the signature of {self['task']} belongs to no app: give it one")
        return self.app

    def _merge(self, args: Any, kwargs: Any, options: Any, *, force: bool = False) -> Any:
        options = {**self["options"], **(options or {})}
        if self["immutable"] and not force:
            return tuple(self["args"]), dict(self["kwargs"]), options
        return (*(args or ()), *self["args"]), {**self["kwargs"], **(kwargs or {})}, options

    def clone(self, args: Any = None, kwargs: Any = None, **options: Any) -> Signature:
        """Return a copy with these arguments in front, and these keywords and options added."""
        new_args, new_kwargs, new_options = self._merge(args, kwargs, options)
        copy = type(self)(
            {**self, "args": new_args, "kwargs": new_kwargs, "options": new_options}, app=self.app
        )
        for link in ("link", "link_error"):
            if isinstance(new_options.get(link), list):
                copy["options"][link] = list(new_options[link])
        return copy

    partial = clone

    def set(self, immutable: bool | None = None, **options: Any) -> Signature:
        """Change options in place and return the signature."""
        if immutable is not None:
            self["immutable"] = immutable
        self["options"].update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Make it ignore (or not) the arguments that it is called with."""
        self["immutable"] = immutable

    def freeze(self, _id: str | None = None, **kwargs: Any) -> Any:
        """Fix the id that it will have; return the result to come."""
        self["options"].setdefault("task_id", _id or uuid())
        return self._app().AsyncResult(self["options"]["task_id"])

    def _append(self, key: str, value: Any) -> Any:
        found = self["options"].setdefault(key, [])
        if not isinstance(found, list):
            found = self["options"][key] = [found]
        if value not in found:
            found.append(value)
        return value

    def link(self, callback: Any) -> Any:
        """Call `callback` with the result on success; return it."""
        return self._append("link", callback)

    def link_error(self, errback: Any) -> Any:
        """Call `errback` on failure; return it."""
        return self._append("link_error", errback)

    def on_error(self, errback: Any) -> Signature:
        """Call `errback` on failure; return the signature."""
        self.link_error(errback)
        return self

    def apply_async(
        self, args: Any = None, kwargs: Any = None, route_name: str | None = None, **options: Any
    ) -> Any:
        """Send it, with `args` in front of its own."""
        args, kwargs, options = self._merge(args, kwargs, options)
        app = self._app()
        task = app.tasks.get(self["task"])
        if task is not None:
            return task.apply_async(args, kwargs, **options)
        return app.send_task(self["task"], args, kwargs, **options)

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Send it, with `args` in front of its own."""
        return self.apply_async(args, kwargs)

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Run it here and return an EagerResult."""
        args, kwargs, options = self._merge(args, kwargs, options)
        return self.type.apply(args, kwargs, **options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the task's function here."""
        args, kwargs, _ = self._merge(args, kwargs, None)
        return self.type(*args, **kwargs)

    def __repr__(self) -> str:
        parts = [repr(arg) for arg in self["args"]]
        parts += [f"{key}={value!r}" for key, value in self["kwargs"].items()]
        return f"{self['task']}({', '.join(parts)})"

    def __reduce__(self) -> Any:
        return Signature, (dict(self),)
