"""A call that is not made yet: a task's name, its arguments and options, as data.

A dict with Celery's keys, so that it goes through JSON and either side reads the other's.

Owns: Signature, signature, maybe_signature.  May import: kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Self

from celeriac.kernel import stamping
from celeriac.kernel.ids import uuid

FIXED_OPTIONS = frozenset(("group_id", "stamped_headers"))
"""Options that a call cannot change: another value would lose the group that waits for it."""


_find_app: Callable[[], Any] | None = None


def set_app_finder(find: Callable[[], Any]) -> None:
    """Say how the current app is found (the app module does so when it is imported)."""
    global _find_app
    _find_app = find


class Signature(dict[str, Any]):
    """A task call as data.

    :param task: a task, its name, or a mapping of the same form.
    :param app: who sends it; found from the task, or the current one.
    """

    TYPES: ClassVar[dict[str, type[Signature]]] = {}
    """The class of each `subtask_type`."""

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
            self.setdefault("args", ())
            self.setdefault("kwargs", {})
            self.setdefault("options", {})
            self.setdefault("subtask_type", None)
            self.setdefault("immutable", False)
            app = app if app is not None else getattr(task, "_app", None)
        else:
            super().__init__(
                task=task if isinstance(task, str) else getattr(task, "name", task),
                args=tuple(args or ()),
                kwargs=dict(kwargs or {}),
                options={**(options or {}), **ex},
                subtask_type=subtask_type,
                immutable=immutable,
            )
        self._app: Any = app if app is not None else getattr(type or task, "_app", None)

    # -- what it is made of ---------------------------------------------------------------------

    def _item(key: str) -> Any:  # type: ignore[misc]  # noqa: N805 - makes the properties below
        def read(self: Signature) -> Any:
            return self[key]

        def write(self: Signature, value: Any) -> None:
            self[key] = value

        return property(read, write)

    def _option(key: str) -> Any:  # type: ignore[misc]  # noqa: N805 - makes the properties below
        def read(self: Signature) -> Any:
            return self["options"].get(key)

        def write(self: Signature, value: Any) -> None:
            self["options"][key] = value

        return property(read, write)

    task = _item("task")
    args = _item("args")
    kwargs = _item("kwargs")
    options = _item("options")
    subtask_type = _item("subtask_type")
    immutable = _item("immutable")
    id = _option("task_id")
    parent_id = _option("parent_id")
    root_id = _option("root_id")
    name = property(lambda self: self["task"])

    @property
    def app(self) -> Any:
        """Who sends it: the app that it was given, else the current one."""
        found = self._app if self._app is not None else self._inner_app()
        if found is None and _find_app is not None:
            found = _find_app()
        if found is None:
            raise RuntimeError(f"the signature of {self['task']} belongs to no app: give it one")
        return found

    @app.setter
    def app(self, app: Any) -> None:
        self._app = app

    def _inner_app(self) -> Any:
        """Return the app of what it is made of, or None."""
        return None

    @property
    def type(self) -> Any:
        """The task itself, of the signature's app."""
        return self.app.tasks[self["task"]]

    @classmethod
    def register_type(cls, name: str | None = None) -> Callable[[Any], Any]:
        """Decorate a class that `from_dict` makes for its `subtask_type`."""

        def register(subclass: Any) -> Any:
            Signature.TYPES[name or subclass.__name__] = subclass
            return subclass

        return register

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> Signature:
        """Return the signature of a mapping, of the class that its `subtask_type` names."""
        kind = Signature.TYPES.get(d.get("subtask_type") or "")
        if kind is not None and kind.from_dict.__func__ is not cls.from_dict.__func__:  # type: ignore[attr-defined]
            return kind.from_dict(d, app=app)
        return Signature(d, app=app)

    # -- copies and changes ---------------------------------------------------------------------

    def _merge(
        self, args: Any = None, kwargs: Any = None, options: Any = None, *, force: bool = False
    ) -> Any:
        own = self["options"]
        fixed = FIXED_OPTIONS.union(own.get("stamped_headers") or ())
        given = {k: v for k, v in (options or {}).items() if k not in fixed or k not in own}
        merged = {**own, **given}
        if self["immutable"] and not force:
            return tuple(self["args"]), dict(self["kwargs"]), merged
        return (*(args or ()), *self["args"]), {**self["kwargs"], **(kwargs or {})}, merged

    def clone(self, args: Any = None, kwargs: Any = None, **options: Any) -> Self:
        """Return a copy with these arguments in front, and these keywords and options added."""
        new_args, new_kwargs, new_options = self._merge(args, kwargs, options)
        for key, value in new_options.items():
            if isinstance(value, list):
                new_options[key] = [
                    item.clone() if isinstance(item, Signature) else item for item in value
                ]
        return self._copy({**self, "args": new_args, "kwargs": new_kwargs, "options": new_options})

    partial = clone

    def _copy(self, values: dict[str, Any]) -> Self:
        copy = self.__class__.__new__(self.__class__)
        dict.update(copy, values)
        copy._app = self._app
        return copy

    def replace(self, args: Any = None, kwargs: Any = None, options: Any = None) -> Self:
        """Return a copy with these in the place of its own, where they are not None."""
        copy = self.clone()
        for key, value in (("args", args), ("kwargs", kwargs), ("options", options)):
            if value is not None:
                copy[key] = value
        return copy

    def set(self, immutable: bool | None = None, **options: Any) -> Self:
        """Change options in place and return the signature."""
        if immutable is not None:
            self.set_immutable(immutable)
        self["options"].update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Make it ignore (or not) the arguments that it is called with."""
        self["immutable"] = immutable

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Fix the id that it will have; return the result to come."""
        options = self["options"]
        options.setdefault("task_id", _id or uuid())
        if group_id:
            options.setdefault("group_id", group_id)
        for key, value in (
            ("root_id", root_id),
            ("parent_id", parent_id),
            ("chord", chord),
            ("group_index", group_index),
        ):
            if value is not None:
                options[key] = value
        return self.AsyncResult(options["task_id"])

    _freeze = freeze

    def AsyncResult(self, task_id: str) -> Any:  # noqa: N802 - Celery's name
        """Return the result of a task id."""
        return self.app.AsyncResult(task_id)

    # -- links ----------------------------------------------------------------------------------

    def append_to_list_option(self, key: str, value: Any) -> Any:
        """Add a value to an option that is a list, once; return the value."""
        found = self["options"].setdefault(key, [])
        if not isinstance(found, list):
            found = self["options"][key] = list(found) if isinstance(found, tuple) else [found]
        if value not in found:
            found.append(value)
        return value

    def extend_list_option(self, key: str, value: Any) -> None:
        """Add values to an option that is a list."""
        for one in as_list(value):
            self.append_to_list_option(key, one)

    def link(self, callback: Any) -> Any:
        """Call `callback` with the result on success; return it."""
        return self.append_to_list_option("link", callback)

    def link_error(self, errback: Any) -> Any:
        """Call `errback` on failure; return it."""
        return self.append_to_list_option("link_error", errback)

    def on_error(self, errback: Any) -> Self:
        """Call `errback` on failure; return the signature."""
        self.link_error(errback)
        return self

    def flatten_links(self) -> list[Signature]:
        """Return the signature and all that is linked to it, and to that, in order."""
        found: list[Signature] = [self]
        for link in as_list(self["options"].get("link")):
            found += maybe_signature(link).flatten_links()
        return found

    # -- stamps ---------------------------------------------------------------------------------

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Add headers that travel with it; a visitor may add more (see `StampingVisitor`).

        :param append_stamps: keep both values of a stamp that is there, as a list.
        """
        self.stamp_links(visitor, append_stamps, **headers)
        found = visitor.on_signature(self, **headers) if visitor is not None else None
        own = stamping.stamps_of(self["options"])
        merged = stamping.merge(headers, found, own, append=append_stamps)
        plain = stamping.not_stamps(merged)
        if plain:
            self["options"]["headers"] = {**(self["options"].get("headers") or {}), **plain}
        return self.set(**{name: merged[name] for name in merged if name not in plain})

    def stamp_links(self, visitor: Any, append_stamps: bool = False, **headers: Any) -> None:
        """Stamp what is linked to it."""
        for key, hook in (("link", "on_callback"), ("link_error", "on_errback")):
            links = as_list(self["options"].get(key))
            for index, link in enumerate(links):
                if not isinstance(link, Signature):
                    links[index] = link = maybe_signature(link, app=self._app)
                found = getattr(visitor, hook)(link, **headers) if visitor is not None else None
                link.stamp(
                    visitor,
                    append_stamps,
                    **stamping.merge(headers, found, None, append=append_stamps),
                )
            if links:
                self["options"][key] = links

    # -- calling --------------------------------------------------------------------------------

    def apply_async(
        self, args: Any = None, kwargs: Any = None, route_name: str | None = None, **options: Any
    ) -> Any:
        """Send it, with `args` in front of its own."""
        options = {name: value for name, value in options.items() if value is not None}
        args, kwargs, options = self._merge(args, kwargs, options)
        app = self.app
        task = app.tasks.get(self["task"])
        if task is not None:
            return task.apply_async(args, kwargs, **options)
        return app.send_task(self["task"], args, kwargs, **options)

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Send it, with `args` in front of its own."""
        return self.apply_async(args, kwargs)

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Run it here and return an EagerResult."""
        options = {name: value for name, value in options.items() if value is not None}
        args, kwargs, options = self._merge(args, kwargs, options)
        return self.type.apply(args, kwargs, **options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the task's function here."""
        args, kwargs, _ = self._merge(args, kwargs, None)
        return self.type(*args, **kwargs)

    def __invert__(self) -> Any:
        """Send it and wait for what it returns: `~add.s(2, 2)`."""
        return self.apply_async().get()

    def __or__(self, other: Any) -> Any:
        """Return the chain of this and `other`."""
        if not isinstance(other, Signature):
            return NotImplemented
        return Signature.TYPES["chain"].joined([self, other], app=self._app)  # type: ignore[attr-defined]

    def __ior__(self, other: Any) -> Any:
        return self.__or__(other)

    # -- how it is shown and carried ------------------------------------------------------------

    def reprcall(self, *args: Any, **kwargs: Any) -> str:
        """Return the call as text, with these arguments in front."""
        args, kwargs, _ = self._merge(args, kwargs, {}, force=True)
        return reprcall(self["task"], args, kwargs)

    def __repr__(self) -> str:
        return self.reprcall()

    def __json__(self) -> dict[str, Any]:
        return dict(self)

    def __deepcopy__(self, memo: Any) -> Self:
        return self.clone()

    def __reduce__(self) -> Any:
        return signature, (dict(self),)


def reprcall(task: str, args: Iterable[Any], kwargs: Mapping[str, Any]) -> str:
    """Return a call as text."""
    parts = [repr(arg) for arg in args]
    parts += [f"{key}={value!r}" for key, value in kwargs.items()]
    return f"{task}({', '.join(parts)})"


def as_list(value: Any) -> list[Any]:
    """Return an option that may be one thing or a list as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def signature(varies: Any, *args: Any, **kwargs: Any) -> Signature:
    """Return a signature: a copy of one, that of a mapping, or a new one as `Signature`."""
    if isinstance(varies, Signature):
        return varies.clone()
    if isinstance(varies, Mapping):
        return Signature.from_dict(varies, app=kwargs.get("app"))
    return Signature(varies, *args, **kwargs)


def maybe_signature(d: Any, app: Any = None, clone: bool = False) -> Any:
    """Return a signature or a mapping of one as a signature; None stays None."""
    if d is None:
        return None
    if not isinstance(d, Signature):
        d = Signature.from_dict(d, app=app)
    elif clone:
        d = d.clone()
    if app is not None:
        d.app = app
    return d
