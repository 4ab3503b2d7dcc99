"""Django's own tasks API on celeriac's workers."""

from __future__ import annotations

import pytest
from tests.django.conftest import Site

TASKS = {"default": {"BACKEND": "celeriac.contrib.django.tasks.CeleriacBackend", "QUEUES": []}}


@pytest.mark.parametrize("backend", ["", "django-db"])
def test_tasks_run_and_tell(site: Site, backend: str) -> None:
    site.settings(TASKS=TASKS, **({"CELERY_RESULT_BACKEND": backend} if backend else {}))
    before = """
        import asyncio, datetime
        from django.utils import timezone
        from django_tasks import default_task_backend
        from django_tasks.exceptions import TaskResultDoesNotExist
        from celeriac.testing.eventually import eventually
        from letters.own import double, who, later, wrong, cannot

        def ended(result):
            def look():
                result.refresh()
                return result.is_finished
            eventually(look)
            return result
    """
    waiting = site.shell(
        before
        + """
        result = double.enqueue(1)
        result.refresh()
        print(json.dumps([result.id, result.status, result.started_at]))
    """
    )
    worker = site.worker("-c", "2")
    found = site.shell(
        before
        + f"""
        first = ended(double.get_result({waiting[0]!r}))
        context = ended(who.using(priority=-100).enqueue("hello"))
        coroutine = ended(asyncio.run(later.aenqueue(text="x")))
        failed, unfit = ended(wrong.enqueue()), ended(cannot.enqueue())
        soon = timezone.now() + datetime.timedelta(seconds=1)
        deferred = ended(double.using(run_after=soon).enqueue(4))
        try:
            double.get_result("unknown")
        except TaskResultDoesNotExist:
            unknown = True
        print(json.dumps([
            [first.status, first.return_value, first.attempts, first.started_at <= first.finished_at],
            context.return_value[:2], context.return_value[2] == context.id,
            coroutine.return_value,
            [failed.status, failed.errors[0].exception_class.__name__, "nothing" in failed.errors[0].traceback],
            unfit.status,
            [deferred.return_value, deferred.started_at >= soon],
            unknown,
            [default_task_backend.supports_defer, default_task_backend.supports_get_result],
        ]))
    """
    )
    assert waiting[1:] == ["READY", None]
    assert found == [
        ["SUCCESSFUL", 2, 1, True],
        ["hello", 1],
        True,
        "later: x",
        ["FAILED", "KeyError", True],
        "FAILED",
        [8, True],
        True,
        [True, True],
    ]
    assert "celeriac.django.run" in worker.output()
