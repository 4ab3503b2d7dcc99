"""URLs and names to drivers, pools and codecs, found by name and imported on first use.

A driver family is one technology with all its roles: broker, results and bus of one URL share
one family object and so its connections.  Others are found through the entry-point group
`celeriac.drivers`.

Owns: Family, open_family, find_pool, find_codec, find_compression, find_fixups, accept.  May import: kernel, ports.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from celeriac.kernel.errors import ImproperlyConfigured
from celeriac.ports.broker import Broker
from celeriac.ports.bus import Bus
from celeriac.ports.codec import Acceptance, Codec, Compression
from celeriac.ports.results import ResultBackend
from celeriac.ports.schedules import ScheduleStore


class Family(Protocol):
    """One technology, opened at one URL.  Built as `family(url, options)`."""

    def broker(self) -> Broker:
        """Return the one broker of this family."""
        ...

    def results(self) -> ResultBackend:
        """Return the one result store of this family."""
        ...

    def bus(self) -> Bus:
        """Return the one bus of this family."""
        ...

    def schedules(self) -> ScheduleStore:
        """Return the one store of schedules of this family.

        :raises CapabilityMissing: it keeps none.
        """
        ...

    def after_fork(self) -> None:
        """Forget every connection without closing it: called in a child that was forked."""
        ...

    def close(self) -> None:
        """Close all roles."""
        ...


_DRIVERS = {
    "memory": "celeriac.drivers.memory:MemoryFamily",
    "sqlite": "celeriac.drivers.sqlite:SQLiteFamily",
    "django-db": "celeriac.contrib.django.results:DatabaseFamily",
    "django-cache": "celeriac.contrib.django.cache:CacheFamily",
    **dict.fromkeys(
        ("redis", "rediss", "sentinel", "valkey", "valkeys"), "celeriac.drivers.redis:RedisFamily"
    ),
    **dict.fromkeys(("amqp", "amqps", "pyamqp", "rpc"), "celeriac.drivers.amqp:AMQPFamily"),
}
_POOLS = {
    "prefork": "celeriac.pools.processes:ProcessPool",
    "processes": "celeriac.pools.processes:ProcessPool",
    "threads": "celeriac.pools.threads:ThreadPool",
    "asyncio": "celeriac.pools.aio:AsyncioPool",
    "solo": "celeriac.pools.solo:SoloPool",
}
_FIXUPS = {"DJANGO_SETTINGS_MODULE": ("django", "celeriac.contrib.django.fixup:DjangoFixup")}
"""By the environment variable that asks for it: the library it needs, and the class."""


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _find(kind: str, table: Mapping[str, str], group: str, name: str) -> Any:
    if name in table:
        return _load(table[name])
    for entry in importlib.metadata.entry_points(group=group, name=name):
        return entry.load()
    near = difflib.get_close_matches(name, table, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ImproperlyConfigured(f"no {kind} is called {name!r}: known are {', '.join(table)}{hint}")


def scheme_of(url: str) -> str:
    """Return the scheme of a broker or backend URL; a bare name is its own scheme."""
    return url.partition("://")[0].partition("+")[0].lower()


def open_family(url: str, options: Mapping[str, Any] | None = None) -> Family:
    """Return the driver family of `url`, not yet connected.

    :raises ImproperlyConfigured: no driver has that scheme, or the URL or an option is wrong.
    """
    family: Family = _find("driver", _DRIVERS, "celeriac.drivers", scheme_of(url))(
        url, dict(options or {})
    )
    return family


@functools.cache
def _codecs() -> Any:
    # Found by name, like the drivers: nothing below the codecs may import them.
    return importlib.import_module("celeriac.codecs")


def find_codec(name: str) -> Codec:
    """Return the codec of a name or content type.

    :raises ImproperlyConfigured: there is none, or its library is not installed.
    """
    codec: Codec = _codecs().find_codec(name)
    return codec


def find_compression(name: str) -> Compression:
    """Return the compression of a name or content type.

    :raises ImproperlyConfigured: there is none, or its library is not installed.
    """
    compression: Compression = _codecs().find_compression(name)
    return compression


def accept(names: Sequence[str]) -> Acceptance:
    """Return what checks content types against `accept_content`.

    :raises ImproperlyConfigured: a name is unknown.
    """
    acceptance: Acceptance = importlib.import_module("celeriac.codecs.accept").Acceptance(names)
    return acceptance


def find_pool(name: str) -> Any:
    """Return the pool class called `name`; `module:Class` is imported.

    :raises ImproperlyConfigured: there is none.
    """
    if ":" in name:
        return _load(name)
    return _find("pool", _POOLS, "celeriac.pools", name)


def find_fixups(environ: Mapping[str, str]) -> list[Any]:
    """Return the classes that tie an app to the frameworks which the environment names."""
    return [
        _load(path)
        for variable, (library, path) in _FIXUPS.items()
        if environ.get(variable) and importlib.util.find_spec(library) is not None
    ]
