"""Tasks one at a time, in one thread: the simplest pool there is.

Owns: SoloPool.  May import: kernel, ports, pools.
"""

from __future__ import annotations

from celeriac.pools.threads import ThreadPool
from celeriac.ports.pool import PoolTraits


class SoloPool(ThreadPool):
    """Runs one task at a time.

    :param size: ignored but for 1, as in Celery.
    """

    traits = PoolTraits("solo", stops_hard=False, stops_soft=False, isolates=False)

    def __init__(self, size: int = 1) -> None:
        super().__init__(1)

    def resize(self, size: int) -> None:
        """Do nothing: it is always one."""
