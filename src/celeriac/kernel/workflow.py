"""What chain, group and chord have in common: a signature made of others.

Owns: Workflow.  May import: kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from celeriac.kernel.parts import Parts
from celeriac.kernel.signature import Signature, signature


class Workflow(Signature):
    """A signature made of others: sent and run by its app as a whole."""

    _kind = ""

    def _make(self, kwargs: Mapping[str, Any], app: Any, options: Mapping[str, Any]) -> None:
        immutable = bool(options.get("immutable"))
        args = options.get("args")
        options = {k: v for k, v in options.items() if k not in ("immutable", "args")}
        Signature.__init__(
            self,
            f"celery.{self._kind}",
            args,
            kwargs,
            options,
            subtask_type=self._kind,
            immutable=immutable,
            app=app,
        )

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> Signature:
        """Return the workflow of a mapping, with signatures of those in it."""
        made = cls.__new__(cls)
        Signature.__init__(made, d, app=app)
        made["kwargs"] = dict(made["kwargs"])
        made["options"] = dict(made["options"])
        made._restore(app)
        return made

    def _restore(self, app: Any) -> None:
        """Make signatures of the mappings that it holds."""

    @property
    def type(self) -> Any:
        """Refuse: there is no such task.

        :raises KeyError: always.
        """
        raise KeyError(f"{self['task']} is no task: a workflow is sent as a whole")

    def apply_async(
        self, args: Any = None, kwargs: Any = None, route_name: str | None = None, **options: Any
    ) -> Any:
        """Send it; return the result of its end.

        :param args: go in front of the arguments of what runs first.
        :param options: for what runs first; `link`, `link_error` and `task_id` for its end.
        """
        options = {name: value for name, value in options.items() if value is not None}
        return self.app.send_canvas(self, args, kwargs, options)

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Run it here; return the result of its end."""
        options = {name: value for name, value in options.items() if value is not None}
        return self.app.apply_canvas(self, args, kwargs, options)

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Fix every id in it; return the result to come."""
        fixed: dict[str, Any] = {"root_id": root_id, "parent_id": parent_id, "group_id": group_id}
        fixed.update(group_index=group_index, chord=chord)
        return self.app.freeze_canvas(self, _id, {k: v for k, v in fixed.items() if v is not None})

    _freeze = freeze

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Send it."""
        return self.apply_async(args, **options)


def is_list(value: Any) -> bool:
    """Return whether something is an iterable of tasks, and no task."""
    return isinstance(value, Iterable) and not isinstance(value, (Mapping, str, bytes))


def app_of(tasks: Any) -> Any:
    """Return the app of the first task that has one, or None."""
    for task in (tasks.first(),) if isinstance(tasks, Parts) and not tasks.listed else tasks:
        if isinstance(task, Signature):
            found = task._app if task._app is not None else task._inner_app()
            if found is not None:
                return found
    return None


def shown(tasks: Any) -> Any:
    """Return tasks as a repr shows them."""
    return tasks if isinstance(tasks, tuple) else list(tasks)


def cloned(tasks: Any) -> Any:
    """Return copies of tasks."""
    made = [task.clone() if isinstance(task, Signature) else signature(task) for task in tasks]
    return tuple(made) if isinstance(tasks, tuple) else made


def without_repeats(name: str, text: str) -> str:
    """Return a workflow's text with the module of its first task taken from the others."""
    module = name.rpartition(".")[0]
    if not module:
        return text
    head, found, rest = text.partition(module + ".")
    return head + found + rest.replace(module + ".", "")
