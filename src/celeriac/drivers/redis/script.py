"""The Lua scripts: each one atomic, made of the parts it needs, sent to a server once.

Owns: Script, and the scripts by name.  May import: kernel.
"""

from __future__ import annotations

import functools
import hashlib
from importlib.resources import files

from celeriac.kernel.states import READY_STATES

_FOLDER = files("celeriac.drivers.redis") / "lua"


class Script:
    """A script and the parts that come before it.

    :param name: its file, without `.lua`.
    :param parts: files whose functions it uses.
    :param full: whether it may run while the server's memory is full: all that takes work out, or
        ends it, may; what brings new work may not.
    """

    def __init__(self, name: str, *parts: str, full: bool = True) -> None:
        self.name, self._parts, self._full = name, parts, full

    @functools.cache  # noqa: B019 - the scripts live as long as the module
    def text(self, modern: bool) -> str:
        """Return the source.

        :param modern: whether the server knows flags (Redis 7); before that, a script goes on
            when its first write takes something away: here a key that never is.
        """
        source = "\n".join(
            (_FOLDER / f"{part}.lua").read_text("utf-8") for part in (*self._parts, self.name)
        )
        source = source.replace("@FINAL@", " ".join(sorted(READY_STATES)))
        if not self._full:
            return source
        if modern:
            return f"#!lua flags=allow-oom\n{source}"
        return f"redis.call('DEL', ARGV[1] .. '-')\n{source}" if self._parts else source

    @functools.cache  # noqa: B019
    def sha(self, modern: bool) -> str:
        """Return the name that the server knows it by."""
        return hashlib.sha1(self.text(modern).encode(), usedforsecurity=False).hexdigest()


PUBLISH = Script("publish", "common", full=False)
CLAIM = Script("claim", "common")
REFETCH = Script("refetch", "common")
SETTLE = Script("settle", "common", "records")
EXTEND = Script("extend", "common")
GIVE_BACK = Script("give_back", "common")
UPKEEP = Script("upkeep", "common")
WITHDRAW = Script("withdraw", "common")
COUNT = Script("count", "common")
PEEK = Script("peek", "common")
PURGE = Script("purge", "common")
BURIED = Script("buried", "common")
EXHUME = Script("exhume", "common")
STORE = Script("store", "common", "records")
FETCH = Script("fetch", "common", "records")
OPEN_GROUP = Script("open_group", "common", full=False)
GROW_GROUP = Script("grow_group", "common")
CLOSE_PARTS = Script("close_parts", "common", "records")
MARK_SENT = Script("mark_sent", "common")
TELL = Script("tell")
ORDER = Script("order")
SCHEDULE_PUT = Script("schedule_put", "common", full=False)
SCHEDULE_GET = Script("schedule_get", "common")
SCHEDULE_REMOVE = Script("schedule_remove", "common")
SCHEDULE_DUE = Script("schedule_due", "common")
SCHEDULE_SENT = Script("schedule_sent", "common", full=False)
CELERY_CLAIM = Script("celery_claim", "common", "celery")
CELERY_SETTLE = Script("celery_settle", "common", "celery", "records")
CELERY_EXTEND = Script("celery_extend", "common", "celery")
CELERY_GIVE_BACK = Script("celery_give_back", "common", "celery")
CELERY_UPKEEP = Script("celery_upkeep", "common", "celery")
CELERY_COUNT = Script("celery_count", "common", "celery")
CELERY_PURGE = Script("celery_purge", "common", "celery")
CELERY_CHORD_PART = Script("celery_chord_part", "common", "celery")
CELERY_CHORD_END = Script("celery_chord_end", "common", "celery", "records")
