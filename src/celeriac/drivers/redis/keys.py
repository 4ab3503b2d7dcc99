"""Names of keys.  All of celeriac's own share one hash tag, so that a script may touch any of them.

    {celeriac}:m            hash   id -> message (see message.py)
    {celeriac}:r:<p>:<q>    list   ready ids of priority p in queue q
    {celeriac}:s:<q>        zset   ready ids that have lost a worker
    {celeriac}:d:<q>        zset   delayed ids, after the digit of their priority, by due time
    {celeriac}:h:<holder>   hash   id -> token and queue: what one worker holds
    {celeriac}:l            zset   holder -> end of its lease, ms by the server's clock
    {celeriac}:n            hash   id -> workers lost, where there are any
    {celeriac}:z            hash   lane -> withdrawn ids that are still in its list
    {celeriac}:x, :xm, :xs  zset, hash, counter: the buried, in their order
    {celeriac}:w:<q>        list   tokens that wake sleepers
    {celeriac}:t            hash   last upkeep
    {celeriac}:oh, :oz, :oe, :os   hash, zsets, counter: standing orders, their order, their ends
    {celeriac}:queues       set    the queues; of more than some thousand, only those with messages
    {celeriac}:dq           set    queues with delayed messages
    {celeriac}:g:<id>, :p:<id>     hashes: a group and its filled slots
    {celeriac}:e:<scope>:<name>    hash   an entry of beat; :ed:<scope> zset, by time; :en:<scope> set
    {celeriac}:ev           counter: the versions of entries
    {celeriac}:cl, :ch:<holder>, :cm, :cd:<q>, :cdq, :cs:<q>   what comes from Celery's lists, see celery.lua
    {celeriac}:quarantine:<q>      list   messages from there that cannot be read, as they came
    {celeriac}:f:<id>       string what a record does not say itself
    celery-task-meta-<id>   string Celery's result; in a cluster, with the hash tag before it
    celery-taskset-meta-<id>       string Celery's saved group, likewise

Owns: Keys.  May import: drivers.redis.
"""

from __future__ import annotations

from celeriac.drivers.redis.kombu import Layout

SAVED_GROUP = "celery-taskset-meta-"


class Keys:
    """The keys of one namespace.

    :param before: `global_keyprefix`.
    :param store: the name of the database.
    :param cluster: whether results must be in the slot of the queues.
    :param celery: the keys of a Celery fleet; None in a cluster, where they cannot be used.
    """

    def __init__(
        self, before: str, store: str, *, cluster: bool, celery: Layout | None = None
    ) -> None:
        self.celery = None if cluster else celery
        self.before = before
        self.prefix = f"{before}{{celeriac}}:"
        self.messages = (f"{self.prefix}m",)
        self.queues = f"{self.prefix}queues"
        self.leases = f"{self.prefix}l"
        self.bells = f"{self.prefix}w:"
        self.result = f"{before}{'{celeriac}' if cluster else ''}celery-task-meta-"
        self._saved = f"{before}{'{celeriac}' if cluster else ''}"
        self.topic = f"{before}celeriac.bus."
        self.store = f"{store}:{before}" if before else store

    def record(self, record_id: str) -> str:
        """Return where a record is kept: a saved group's id is the key that Celery gives it."""
        if record_id.startswith(SAVED_GROUP):
            return self._saved + record_id
        return self.result + record_id
