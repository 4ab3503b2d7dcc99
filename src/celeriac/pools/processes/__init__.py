"""Tasks in processes: the pool that survives what its tasks do to theirs."""

from celeriac.pools.processes.pool import ProcessPool

__all__ = ["ProcessPool"]
