"""The public names of celeriac: a change of the API is a change of this list, and so of the changelog."""

from __future__ import annotations

import celeriac

NAMES = {
    # the app
    "Celeriac",
    "Celery",
    "shared_task",
    "current_app",
    "current_task",
    # tasks and results
    "Exchange",
    "Queue",
    "Task",
    "binding",
    "AsyncResult",
    "Signature",
    "uuid",
    # workflows
    "chain",
    "chord",
    "chunks",
    "group",
    "maybe_signature",
    "signature",
    "subtask",
    "xmap",
    "xstarmap",
    "__version__",
}


def test_names_are_the_list() -> None:
    assert set(celeriac.__all__) == NAMES
    assert len(celeriac.__all__) == len(set(celeriac.__all__))


def test_names_are_there() -> None:
    missing = [name for name in celeriac.__all__ if not hasattr(celeriac, name)]
    assert not missing


def test_celery_is_celeriac() -> None:
    assert issubclass(celeriac.Celery, celeriac.Celeriac)
