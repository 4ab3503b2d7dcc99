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
            [unfit.status, unfit.errors[0].exception_class.__name__],
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
        ["FAILED", "EncodeError"],
        [8, True],
        True,
        [True, True],
    ]
    assert "celeriac.django.run" in worker.output()
    if backend:
        rows = site.shell("""
            from celeriac.contrib.django.models import TaskResult
            rows = TaskResult.objects.exclude(task_id__endswith="-call").order_by("task_name")
            print(json.dumps(list(rows.values_list("task_name", "task_args")[:2])))
        """)
        assert rows == [["letters.own.cannot", "[]"], ["letters.own.double", "[1]"]]


def test_options_that_it_has_not_are_named_by_check(site: Site) -> None:
    options = {"expires": 60, "expirez": 1, "queue": "x"}
    site.settings(TASKS={"default": {**TASKS["default"], "OPTIONS": options}})
    said = site.shell("""
        from django_tasks import default_task_backend
        print(json.dumps([[wrong.msg, wrong.is_serious()] for wrong in default_task_backend.check()]))
    """)
    assert len(said) == 1 and "cannot have expirez, queue" in said[0][0] and said[0][1]


def test_moments_are_naive_without_use_tz(site: Site) -> None:
    site.settings(TASKS=TASKS, USE_TZ=False, CELERY_TIMEZONE="Asia/Tokyo")
    site.worker("-c", "1")
    found = site.shell("""
        from datetime import timedelta
        from django.utils import timezone
        from celeriac.testing.eventually import eventually
        from letters.own import double
        soon = timezone.now() + timedelta(seconds=1)
        result = double.using(run_after=soon).enqueue(1)
        eventually(lambda: result.refresh() or result.is_finished, within=20)
        moments = [result.enqueued_at, result.started_at, result.finished_at, timezone.now()]
        print(json.dumps([moments == sorted(moments), soon <= result.started_at]))
    """)
    assert found == [True, True]
