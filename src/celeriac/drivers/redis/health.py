"""Whether a Redis server can be trusted with tasks, and what it would lose.

Owns: check, Health, examine.  May import: kernel, drivers.redis.
"""

from __future__ import annotations

from dataclasses import dataclass

from celeriac.drivers.redis.connection import Server
from celeriac.kernel.errors import BrokerRejected

OLDEST = (6, 2)


@dataclass(frozen=True, slots=True)
class Health:
    """What a server says of itself."""

    version: tuple[int, ...]
    eviction: str
    """`maxmemory-policy`."""
    maxmemory: int
    """Bytes; 0 means no limit."""
    appends: bool
    """Whether every write goes to a file (AOF)."""
    appendfsync: str
    """`always`, `everysec`, `no`; empty where the server does not tell."""
    saves: bool
    """Whether snapshots are made."""
    replicas: int
    protected: bool
    """Whether a password is asked for."""

    @property
    def evicts(self) -> bool:
        """Whether the server deletes waiting tasks when its memory is full."""
        return bool(self.maxmemory) and self.eviction.startswith("allkeys")

    @property
    def promise(self) -> str:
        """What a crash of the server may lose, in one sentence."""
        if not self.appends:
            kept = "everything since the last snapshot" if self.saves else "everything"
            return f"a crash of Redis loses {kept}: appendonly is off"
        if self.appendfsync == "always":
            return "a crash of Redis loses nothing it has confirmed (appendfsync always)"
        if self.appendfsync == "no":
            return "a power failure loses what the system had not written yet (appendfsync no)"
        return (
            "a power failure loses up to 2 s of tasks, and so may a kill of redis-server while the"
            " disk is busy (appendfsync everysec)"
        )


def _info(server: Server, section: str) -> dict[str, str]:
    text = server.call("INFO", section).decode()
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {name: value.strip() for name, value in pairs}


def _setting(server: Server, name: str) -> str:
    try:
        found = server.call("CONFIG", "GET", name)
    except BrokerRejected:  # a managed server does not tell
        return ""
    return found[1].decode() if found else ""


def examine(server: Server) -> Health:
    """Ask a server about itself.

    :raises BrokerUnavailable: it is away.
    :raises BrokerRejected: it refuses to answer.
    """
    about = _info(server, "server")
    memory = _info(server, "memory")
    return Health(
        version=_version(about),
        eviction=memory.get("maxmemory_policy", ""),
        maxmemory=int(memory.get("maxmemory", 0)),
        appends=_info(server, "persistence").get("aof_enabled") == "1",
        appendfsync=_setting(server, "appendfsync"),
        saves=bool(_setting(server, "save")),
        replicas=int(_info(server, "replication").get("connected_slaves", 0)),
        protected=server.address.password is not None,
    )


def _version(about: dict[str, str]) -> tuple[int, ...]:
    # Valkey calls itself Redis 7.2 there, for the sake of just such questions.
    numbers = about.get("redis_version", "0").split(".")
    return tuple(int(number) for number in numbers if number.isdigit())


def check(server: Server, *, evicts: bool) -> None:
    """Refuse a server that would lose tasks without a word.

    :param evicts: whether the user allows `allkeys-*` eviction.
    :raises BrokerUnavailable: it is away.
    :raises BrokerRejected: it is too old, evicts tasks, or refuses the login.
    """
    shown = server.address.shown
    server.call("PING")
    try:
        about, memory = _info(server, "server"), _info(server, "memory")
    except BrokerRejected:
        # INFO is not for everyone: the scripts then go without flags, which every version knows.
        server.modern = False
        return
    version = _version(about)
    if version < OLDEST:
        found = ".".join(map(str, version))
        raise BrokerRejected(f"{shown} is Redis {found}: celeriac needs 6.2 or newer")
    server.modern = version >= (7,)
    policy = memory.get("maxmemory_policy", "")
    if int(memory.get("maxmemory", 0)) and policy.startswith("allkeys") and not evicts:
        raise BrokerRejected(
            f"{shown} deletes tasks when its memory is full (maxmemory-policy {policy}): set it to"
            ' noeviction, or allow it with broker_transport_options = {"allow_eviction": True}'
        )
