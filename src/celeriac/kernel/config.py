"""Settings read, checked and kept: a mapping with attributes.

Owns: Config, read_object, read_environment.  May import: kernel.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping, MutableMapping
from datetime import timedelta
from types import ModuleType
from typing import Any

from celeriac.kernel.errors import ImproperlyConfigured
from celeriac.kernel.redact import bounded_repr, is_secret, redact_url
from celeriac.kernel.settings import BY_NAME, FOREIGN, OLD_NAMES, SETTINGS, Setting

_SECTIONS = tuple(
    "task_ worker_ broker_ result_ beat_ redis_ event_ control_ database_ security_".split()
)
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", ""}


class UnknownSetting(ImproperlyConfigured, KeyError, AttributeError):
    """No setting has that name; the message names the nearest."""

    def __str__(self) -> str:
        return str(self.args[0])


def _canonical(name: str) -> str:
    """Return the table's name of a setting.

    :raises UnknownSetting: there is none.
    """
    if name in BY_NAME:
        return name
    if name in OLD_NAMES:
        return OLD_NAMES[name]
    lower = name.lower()
    if lower in BY_NAME:
        return lower
    bare = lower.removeprefix("celery_")
    if bare.startswith(tuple(FOREIGN)):
        return bare
    pool = [*OLD_NAMES] if name.isupper() else [*BY_NAME]
    near = difflib.get_close_matches(name, pool, n=1) or difflib.get_close_matches(
        bare, BY_NAME, n=1
    )
    hint = f"; did you mean {near[0]}?" if near else " (see `celeriac settings --all`)"
    raise UnknownSetting(f"there is no setting {name!r}{hint}")


def _check(name: str, value: Any) -> Any:
    setting = BY_NAME.get(name)
    if setting is None:
        return value
    kind = setting.kind
    if kind.endswith("?"):
        if value is None or value == "":
            return None
        kind = kind[:-1]
    try:
        return _COERCE[kind](value)
    except (TypeError, ValueError, KeyError):
        # Cut after the password is out: half of one is not recognised.
        shown = "**" if is_secret(name) else redact_url(bounded_repr(value, 10_000))[:100]
        raise ImproperlyConfigured(
            f"the setting {name} cannot be {shown}: {_WANTED[kind]} is expected"
        ) from None


def _bool(value: Any) -> bool:
    if isinstance(value, str):
        return {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}[value.lower()]
    if value in (0, 1):
        return bool(value)
    raise TypeError


def _int(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise TypeError
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool):
        raise TypeError
    return float(value)


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _list(value: Any) -> tuple[Any, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, (list, tuple, set, frozenset)):
        return tuple(value)
    raise TypeError


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError
    return dict(value)


def _seconds(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value
    return _float(value)


_COERCE: dict[str, Any] = {
    "any": lambda value: value,
    "bool": _bool,
    "int": _int,
    "float": _float,
    "str": _str,
    "list": _list,
    "dict": _dict,
    "seconds": _seconds,
}
_WANTED = {
    "bool": "True or False",
    "int": "a whole number",
    "float": "a number",
    "str": "a string",
    "list": "a list of names",
    "dict": "a mapping",
    "seconds": "a number of seconds or a timedelta",
}


def _default(setting: Setting) -> Any:
    # A mapping may be changed in place by the app whose it is, and by no other.
    return dict(setting.default) if isinstance(setting.default, dict) else setting.default


def _hidden(name: str, value: Any) -> Any:
    """Return a value with every password in it as `**`."""
    if value is None:
        return None
    if is_secret(name):
        return "**"
    if isinstance(value, str):
        return redact_url(value)
    if isinstance(value, dict):
        return {key: _hidden(str(key), item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_hidden("", item) for item in value)
    return value


class Config(MutableMapping[str, Any]):
    """The settings of an app: attributes for reading fast, a mapping for the rest.

    Celery's old names are read and written too.  `version` grows with every change.
    """

    version: int

    def __init__(self) -> None:
        self.__dict__.update((setting.name, _default(setting)) for setting in SETTINGS)
        self.__dict__["_origins"] = {}
        self.__dict__["_foreign"] = {}
        self.__dict__["version"] = 0

    def load(self, values: Mapping[str, Any], origin: str) -> None:
        """Take values; `origin` is what `origin()` says of them from now on.

        :raises ImproperlyConfigured: one is unknown or wrong, or old and new names are mixed.
        """
        checked = {}
        for name, value in values.items():
            own = _canonical(name)
            if own in checked:
                raise ImproperlyConfigured(
                    f"{origin} sets {own} twice, under its old and its new name: keep {own}"
                )
            checked[own] = _check(own, value)
        for name, value in checked.items():
            self._put(name, value, origin)

    def _put(self, name: str, value: Any, origin: str) -> None:
        (self.__dict__ if name in BY_NAME else self._foreign)[name] = value
        self._origins[name] = origin
        self.__dict__["version"] += 1

    def origin(self, name: str) -> str:
        """Return where a value came from; "default" where nobody set it."""
        found: str = self._origins.get(_canonical(name), "default")
        return found

    @property
    def result_expires_seconds(self) -> float | None:
        """`result_expires` in seconds; None where results are kept for ever."""
        value = self.__dict__["result_expires"]
        seconds = value.total_seconds() if isinstance(value, timedelta) else value
        return seconds or None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __setattr__(self, name: str, value: Any) -> None:
        own = _canonical(name)
        self._put(own, _check(own, value), "attribute")

    def __getitem__(self, name: str) -> Any:
        own = _canonical(name)
        return self.__dict__[own] if own in BY_NAME else self._foreign.get(own)

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def __delitem__(self, name: str) -> None:
        own = _canonical(name)
        if own in BY_NAME:
            self._put(own, _default(BY_NAME[own]), "default")
        self._foreign.pop(own, None)
        self._origins.pop(own, None)

    def clear(self) -> None:
        """Put every setting back to its default."""
        for name in list(self._origins):
            del self[name]

    def __iter__(self) -> Iterator[str]:
        return iter(BY_NAME)

    def __len__(self) -> int:
        return len(BY_NAME)

    def __contains__(self, name: object) -> bool:
        try:
            _canonical(str(name))
        except UnknownSetting:
            return False
        return True

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __reduce__(self) -> Any:
        changed = {name: self[name] for name in self._origins}
        return _rebuilt, (changed, dict(self._origins))

    def table(self, with_defaults: bool = False, censored: bool = True) -> dict[str, Any]:
        """Return the settings by name, secrets hidden unless `censored` is False."""
        names = BY_NAME if with_defaults else self._origins
        return {name: _hidden(name, self[name]) if censored else self[name] for name in names}

    def humanize(self, with_defaults: bool = False, censored: bool = True) -> str:
        """Return the settings as text, one in a line."""
        table = self.table(with_defaults, censored)
        return "\n".join(f"{name}: {bounded_repr(value, 500)}" for name, value in table.items())


def _rebuilt(values: dict[str, Any], origins: dict[str, str]) -> Config:
    config = Config()
    for name, value in values.items():
        config._put(name, value, origins.get(name, "attribute"))
    return config


def read_object(source: Any, namespace: str | None = None) -> dict[str, Any]:
    """Return the settings that a module, an object or a mapping holds.

    :param namespace: take only names with this prefix, e.g. "CELERY" for CELERY_TASK_ROUTES.
    :raises ImproperlyConfigured: a name looks like a setting and is none.
    """
    if isinstance(source, Mapping):
        items = dict(source)
    else:
        items = {name: getattr(source, name) for name in dir(source) if not name.startswith("_")}
    if namespace:
        prefix = namespace if namespace.endswith("_") else f"{namespace}_"
        found = {name: value for name, value in items.items() if name.startswith(prefix)}
        return {_of_namespace(name, prefix): value for name, value in found.items()}
    if isinstance(source, Mapping):
        return items
    return {name: value for name, value in items.items() if _is_meant(name, value)}


def _of_namespace(name: str, prefix: str) -> str:
    bare = name.removeprefix(prefix)
    for candidate in (bare.lower(), bare, name):
        try:
            return _canonical(candidate)
        except UnknownSetting:
            continue
    near = difflib.get_close_matches(bare.lower(), BY_NAME, n=1)
    hint = f"; did you mean {prefix}{near[0].upper()}?" if near else ""
    raise UnknownSetting(f"there is no setting {name!r}{hint}")


def _is_meant(name: str, value: Any) -> bool:
    if name in BY_NAME or name in OLD_NAMES:
        return True
    if isinstance(value, ModuleType) or inspect.isroutine(value) or inspect.isclass(value):
        return False
    if name.islower() and name.startswith(_SECTIONS):
        return True
    if name.isupper() and name.startswith(("CELERY_", "CELERYD_", "CELERYBEAT_", "BROKER_")):
        return True
    return name.islower() and bool(difflib.get_close_matches(name, BY_NAME, n=1, cutoff=0.9))


_CELERYS = {
    "CELERY_BROKER_URL": "broker_url",
    "CELERY_RESULT_BACKEND": "result_backend",
}


def read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of the environment: CELERIAC_<SETTING>, and Celery's names of URLs.

    :raises ImproperlyConfigured: a value is wrong for its setting.
    """
    found: dict[str, Any] = {
        name: environ[key] for key, name in _CELERYS.items() if environ.get(key)
    }
    for key, value in environ.items():
        name = key.removeprefix("CELERIAC_").lower()
        if key.startswith("CELERIAC_") and name in BY_NAME:
            found[name] = _check(name, value)
    return found
