"""Settings read, checked and kept: a mapping with attributes.

Owns: Config, UnknownSetting, read_object, read_environment.  May import: kernel.
"""

from __future__ import annotations

import difflib
import inspect
import json
import math
from collections.abc import Iterator, Mapping, MutableMapping
from datetime import timedelta
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

from celeriac.kernel.accepted import FOREIGN
from celeriac.kernel.errors import ImproperlyConfigured
from celeriac.kernel.rate import parse_rate
from celeriac.kernel.redact import bounded_repr, censored
from celeriac.kernel.settings import BY_NAME, OLD_NAMES, SETTINGS

_SECTIONS = tuple(
    "task_ worker_ broker_ result_ beat_ redis_ event_ control_ database_ security_".split()
)
_WORDS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off", ""), False),
}
_LEAST = {
    "broker_publish_timeout": 0,
    "task_max_body_size": 1,
    "task_max_decompressed_size": 1,
    "task_max_deliveries": 1,
    "task_soft_time_limit": 0,
    "task_time_limit": 0,
    "task_unknown_delay": 0,
    "task_unknown_patience": 0,
    "worker_concurrency": 0,
    "worker_lease": 0.1,
    "worker_max_memory_per_child": 0,
    "worker_max_tasks_per_child": 0,
    "worker_prefetch_multiplier": 0,
    "worker_shutdown_timeout": 0,
}
"""What is less than this cannot be meant."""


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


def _check(name: str, value: Any, origin: str) -> Any:
    setting = BY_NAME.get(name)
    if setting is None or setting.ignored:
        return value
    kind = setting.kind.removesuffix("?")
    wanted = _WANTED.get(kind, "")
    if setting.kind.endswith("?") and (value is None or value == ""):
        return None
    try:
        found: Any = _COERCE[kind](value)
        least = _LEAST.get(name)
        if least is not None and found < least:
            wanted = f"{wanted} of at least {least}"
            raise ValueError
        if name in _SPECIAL:
            wanted, check = _SPECIAL[name]
            check(found)
    except (ImproperlyConfigured, LookupError, OSError, TypeError, ValueError):
        shown = bounded_repr(censored(name, value), 100)
        raise ImproperlyConfigured(
            f"the setting {name} cannot be {shown}: {wanted} is expected ({origin})"
        ) from None
    return found


def _bool(value: Any) -> bool:
    if isinstance(value, str):
        return _WORDS[value.strip().lower()]
    if isinstance(value, int) and value in (0, 1):
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
    number = float(value)
    if math.isnan(number):
        raise ValueError
    return number


def _zone(value: Any) -> None:
    if isinstance(value, str) and value not in ("UTC", "local"):
        ZoneInfo(value)


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _urls(value: Any) -> str:
    """Return URLs in one text, separated as Celery does it."""
    return ";".join(map(_str, [value] if isinstance(value, str) else _list(value)))


def _list(value: Any) -> tuple[Any, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, (list, tuple, set, frozenset)):
        return tuple(value)
    raise TypeError


def _dict(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value  # the user's own: what is added to it later counts, as in Celery
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
    "urls": _urls,
}
_WANTED = {
    "bool": "True or False",
    "int": "a whole number",
    "float": "a number",
    "str": "a string",
    "list": "a list of names",
    "dict": "a mapping",
    "seconds": "a number of seconds or a timedelta",
    "urls": "a URL, or a list of URLs to try in that order",
}
_SPECIAL: dict[str, tuple[str, Any]] = {
    "timezone": ("the name of a time zone, as Europe/Berlin, or a tzinfo", _zone),
    "task_default_rate_limit": ("'10/s', '100/m', '1000/h' or a number per second", parse_rate),
}
"""Settings that a type alone does not check."""


class Config(MutableMapping[str, Any]):
    """The settings of an app: attributes for reading fast, a mapping for the rest.

    Celery's old names are read and written too.  `version` grows with every change.
    """

    version: int

    def __init__(self) -> None:
        self.__dict__.update((setting.name, _fresh(setting.default)) for setting in SETTINGS)
        self.__dict__["_origins"] = {}
        self.__dict__["_foreign"] = {}
        self.__dict__["version"] = 0

    def load(self, values: Mapping[str, Any], origin: str | Mapping[str, str]) -> None:
        """Take values, all or none.

        :param origin: what `origin()` says of them from now on; or that by setting.
        :raises ImproperlyConfigured: one is unknown or wrong, or set twice.
        """
        checked: dict[str, tuple[Any, str]] = {}
        for own, value in _once(values, str(origin)).items():
            where = origin if isinstance(origin, str) else origin[own]
            checked[own] = _check(own, value, where), where
        for own, (value, where) in checked.items():
            self._put(own, value, where)

    def load_environment(self, environ: Mapping[str, str]) -> None:
        """Take the settings of the environment; `origin()` names the variable of each.

        In Celery 5 CELERY_BROKER_URL and CELERY_RESULT_BACKEND beat every other source, even
        `Celery(broker=...)` and `conf.broker_url = ...`: who wants that loads them last.

        :raises ImproperlyConfigured: a value is wrong for its setting.
        """
        found = _variables(environ)
        self.load(
            {own: value for own, (value, _) in found.items()},
            {own: f"environment {key}" for own, (_, key) in found.items()},
        )

    def _put(self, name: str, value: Any, origin: str) -> None:
        (self.__dict__ if name in BY_NAME else self._foreign)[name] = value
        self._origins[name] = origin
        # After the value: who reads the version first never keeps an old value under the new one.
        self.__dict__["version"] += 1

    def origin(self, name: str) -> str:
        """Return where a value came from; "default" where nobody set it."""
        found: str = self._origins.get(_canonical(name), "default")
        return found

    def _changed(self) -> list[str]:
        """Return what was set, or changed in place, as by `conf.beat_schedule["x"] = ...`."""
        return [
            *self._origins,
            *(
                setting.name
                for setting in SETTINGS
                if type(setting.default) is dict
                and setting.name not in self._origins
                and self.__dict__[setting.name] != setting.default
            ),
        ]

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
        self._put(own, _check(own, value, "attribute"), "attribute")

    def __getitem__(self, name: str) -> Any:
        own = _canonical(name)
        if own in BY_NAME:
            return self.__dict__[own]
        return self._foreign.get(own)

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def update(self, other: Any = (), /, **values: Any) -> None:
        """Take values, all or none.

        :raises ImproperlyConfigured: one is unknown or wrong.
        """
        self.load(dict(other, **values), "update")

    def __delitem__(self, name: str) -> None:
        """Go back to the default."""
        own = _canonical(name)
        if own in BY_NAME:
            self._put(own, _fresh(BY_NAME[own].default), "default")
        else:
            self._foreign.pop(own, None)
        self._origins.pop(own, None)

    def clear(self) -> None:
        """Go back to all defaults."""
        for name in self._changed():
            del self[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*BY_NAME, *self._foreign))

    def __len__(self) -> int:
        return len(BY_NAME) + len(self._foreign)

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
        return _rebuilt, ({name: self[name] for name in self._changed()}, dict(self._origins))

    def table(self, with_defaults: bool = False, censored: bool = True) -> dict[str, Any]:
        """Return the settings by name, secrets hidden unless `censored` is False."""
        names = [*self] if with_defaults else self._changed()
        if not censored:
            return {name: self[name] for name in names}
        return {name: _hidden(name, self[name]) for name in names}

    def humanize(self, with_defaults: bool = False, censored: bool = True) -> str:
        """Return the settings as text, one in a line."""
        table = self.table(with_defaults, censored)
        return "\n".join(f"{name}: {bounded_repr(value, 500)}" for name, value in table.items())


_hidden = censored  # Celery calls a parameter of `table` so


def _fresh(default: Any) -> Any:
    """Return a default that one Config may change in place."""
    return dict(default) if type(default) is dict else default


def _rebuilt(values: dict[str, Any], origins: dict[str, str]) -> Config:
    config = Config()
    for name, value in values.items():
        config._put(name, value, origins.get(name, "default"))
    return config


def _once(values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Return values by the table's names; the same value under two names is one.

    :raises ImproperlyConfigured: a name is unknown, or has two values.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        own = _canonical(name)
        if own in found and found[own] != value:
            raise ImproperlyConfigured(
                f"{origin} sets {own} twice, under its old and its new name: keep {own}"
            )
        found[own] = value
    return found


def read_object(source: Any, namespace: str | None = None) -> dict[str, Any]:
    """Return the settings, by the table's names, that a module, object or mapping holds.

    Django's TIME_ZONE is taken for `timezone` where that is not set, as in Celery.

    :param namespace: take only names with this prefix, e.g. "CELERY" for CELERY_TASK_ROUTES.
    :raises ImproperlyConfigured: a name looks like a setting and is none, or Celery's old names
        are mixed with new ones.
    """
    mapping = isinstance(source, Mapping)
    names = [*source] if mapping else [name for name in dir(source) if name[:1] != "_"]

    def value_of(name: str) -> Any:
        return source[name] if mapping else getattr(source, name)

    if namespace:
        prefix = namespace if namespace.endswith("_") else f"{namespace}_"
        given = {n: (_of_namespace(n, prefix), value_of(n)) for n in names if n.startswith(prefix)}
        found = _once_named(given)
    else:
        # Only what may be a setting is read: other attributes of an object can raise.
        wanted = {n: value_of(n) for n in names if n != "TIME_ZONE" and (mapping or _may_be(n))}
        meant = {n: value for n, value in wanted.items() if mapping or _is_meant(n, value)}
        _refuse_mixed(meant)
        found = meant
    if "timezone" not in {OLD_NAMES.get(name, name) for name in found} and "TIME_ZONE" in names:
        found["timezone"] = value_of("TIME_ZONE")
    return found


def _once_named(given: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, tuple[str, Any]] = {}
    for name, (own, value) in given.items():
        if own in found and found[own][1] != value:
            raise ImproperlyConfigured(f"{found[own][0]} and {name} are the same setting: keep one")
        found[own] = name, value
    return {own: value for own, (_, value) in found.items()}


def _refuse_mixed(values: Mapping[str, Any]) -> None:
    """Refuse one source with old and new names, as Celery does: one of them is a leftover."""
    olds = {name: own for own in BY_NAME for name in BY_NAME[own].old if name in values}
    if any(name in BY_NAME for name in values):
        left = {old: own for old, own in olds.items() if own not in values}
        if left:
            renames = "".join(f"\n  {old} -> {own}" for old, own in sorted(left.items()))
            raise ImproperlyConfigured(
                f"old and new names of settings are mixed; rename the old ones:{renames}"
            )


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


_OLD_SECTIONS = ("CELERY_", "CELERYD_", "CELERYBEAT_", "BROKER_")


def _may_be(name: str) -> bool:
    """Tell from a name alone whether an attribute could be meant as a setting."""
    return (
        name in BY_NAME
        or name in OLD_NAMES
        or (name.islower() and name.startswith((*_SECTIONS, *FOREIGN)))
        or (name.isupper() and name.startswith(_OLD_SECTIONS))
        or (name.islower() and bool(difflib.get_close_matches(name, BY_NAME, n=1, cutoff=0.9)))
    )


def _is_meant(name: str, value: Any) -> bool:
    if isinstance(value, ModuleType):
        return False
    known = name in BY_NAME or name in OLD_NAMES  # a function too: task_routes may be one
    return known or not (inspect.isroutine(value) or inspect.isclass(value))


_CELERYS = {
    "CELERY_BROKER_URL": "broker_url",
    "CELERY_BROKER_READ_URL": "broker_read_url",
    "CELERY_BROKER_WRITE_URL": "broker_write_url",
    "CELERY_RESULT_BACKEND": "result_backend",
}


def read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of the environment: CELERIAC_<SETTING>, and Celery's names of URLs.

    CELERIAC_ beats CELERY_.  Booleans are words, lists have commas, mappings are JSON.

    :raises ImproperlyConfigured: a value is wrong for its setting, or a name is nearly one.
    """
    return {name: value for name, (value, _) in _variables(environ).items()}


def _variables(environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    found: dict[str, tuple[Any, str]] = {
        name: (environ[key], key) for key, name in _CELERYS.items() if environ.get(key)
    }
    for key, text in environ.items():
        if not key.startswith("CELERIAC_"):
            continue
        name = key.removeprefix("CELERIAC_").lower()
        if name in BY_NAME:
            where = f"environment {key}"
            found[name] = _check(name, _parsed(name, text), where), key
        elif near := difflib.get_close_matches(name, BY_NAME, n=1, cutoff=0.85):
            raise UnknownSetting(
                f"there is no setting {name!r} (environment {key}); "
                f"did you mean CELERIAC_{near[0].upper()}?"
            )
    return found


def _parsed(name: str, text: str) -> Any:
    """Return what the text of a variable says, as far as the setting's type tells."""
    kind = BY_NAME[name].kind
    if kind.endswith("?") and text.lower() in ("none", "null"):
        return None
    if kind.startswith(("dict", "any")) and text.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(text)
        except ValueError:
            return text  # refused, with the right words, where the type is checked
    return text
