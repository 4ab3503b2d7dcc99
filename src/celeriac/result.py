"""Celery's module of results.

Owns: nothing; re-exports.  May import: client.
"""

from celeriac.client.eager import EagerResult
from celeriac.client.groups import GroupResult, ResultSet
from celeriac.client.result import (
    AsyncResult,
    allow_join_result,
    denied_join_result,
    result_from_tuple,
)

__all__ = [
    "AsyncResult",
    "EagerResult",
    "GroupResult",
    "ResultSet",
    "allow_join_result",
    "denied_join_result",
    "result_from_tuple",
]
