"""The tree of exceptions: what catches what, and what travels between processes."""

from __future__ import annotations

import ast
import builtins
import datetime as dt
import inspect
import pickle

import pytest
from celery import exceptions as celery_exceptions

from celeriac.kernel import errors

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and value.__module__ == errors.__name__
}

OURS = {
    "Replaced",
    "CapabilityMissing",
    "BrokerUnavailable",
    "PublishUncertain",
    "BrokerRejected",
    "BrokerFull",
    "PayloadTooLarge",
    "WireError",
    # kombu's in Celery
    "EncodeError",
    "DecodeError",
    "ContentDisallowed",
}
"""Those that Celery's module has not."""


def tree() -> dict[str, str]:
    """Return child -> parent as the module's docstring draws it."""
    drawn: dict[str, str] = {}
    stack: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        bare = line.lstrip(" │├└─")
        if line[:4] != "    " or not bare[:1].isupper():
            continue
        indent = len(line) - len(bare)
        text = bare.split("  ")[0]
        stack = [(depth, name) for depth, name in stack if depth < indent]
        parent = stack[-1][1] if stack else ""
        words = text.replace("──", ",").split(",")
        names = [word.split("(")[0].strip() for word in words]
        for place, name in enumerate(names):
            drawn[name] = parent if "──" not in text or place == 0 else names[0]
        stack.append((indent, names[0]))
    return drawn


def test_the_drawing_is_the_tree() -> None:
    drawn = tree()
    assert len(drawn) > 20
    for child, parent in drawn.items():
        assert child in CLASSES
        if parent and "Limit" not in child and child not in {"WorkerLostError", "Terminated"}:
            assert issubclass(CLASSES[child], CLASSES[parent]), f"{child} is no {parent}"


LEFT_OUT = {
    "reraise",  # a function of Celery's own
    "DuplicateTaskNameWarning",  # Celery 5.7; celeriac's API is that of 5.6
}


@pytest.mark.parametrize("name", sorted(set(celery_exceptions.__all__) - LEFT_OUT))
def test_celerys_exceptions_are_all_here(name: str) -> None:
    assert hasattr(errors, name)


@pytest.mark.parametrize("name", sorted(set(CLASSES) - OURS))
def test_what_catches_it_in_celery_catches_it_here(name: str) -> None:
    theirs = getattr(celery_exceptions, name)
    mine = {base.__name__ for base in CLASSES[name].__mro__}
    # kombu's and billiard's own bases are not Celery's API.
    wanted = {
        b.__name__ for b in theirs.__mro__ if b.__module__ in {"builtins", "celery.exceptions"}
    }
    assert wanted <= mine


def test_limits_are_no_celery_errors() -> None:
    for name in ("SoftTimeLimitExceeded", "TimeLimitExceeded", "WorkerLostError", "Terminated"):
        assert not issubclass(CLASSES[name], errors.CeleryError)


def test_builtin_bases() -> None:
    assert issubclass(errors.TimeoutError, builtins.TimeoutError)
    assert issubclass(errors.NotRegistered, KeyError)
    assert issubclass(errors.QueueNotFound, KeyError)
    assert issubclass(errors.EncodeError, ValueError)
    assert issubclass(errors.DecodeError, ValueError)
    assert issubclass(errors.WorkerShutdown, SystemExit)
    assert not issubclass(errors.WorkerShutdown, Exception)


def test_unavailable_may_be_retried_and_rejected_may_not() -> None:
    assert issubclass(errors.PublishUncertain, errors.BrokerUnavailable)
    assert not issubclass(errors.BrokerRejected, errors.BrokerUnavailable)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_pickle_keeps_class_and_words(name: str) -> None:
    error = CLASSES[name]("some words")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.Retry(), "Retry at None"),
        (errors.Retry("later"), "later"),
        (errors.Retry(when=3), "Retry in 3s"),
        (errors.Retry(exc=KeyError("k"), when=3.5), "Retry in 3.5s: KeyError('k')"),
        (errors.Retry(exc="KeyError('k')", when=3), "Retry in 3s: KeyError('k')"),
        (
            errors.Retry(when=dt.datetime(2026, 1, 2, tzinfo=dt.UTC)),
            "Retry at 2026-01-02 00:00:00+00:00",
        ),
    ],
)
def test_retry_says_when_and_why(error: errors.Retry, words: str) -> None:
    assert str(error) == words
    back = pickle.loads(pickle.dumps(error))
    assert str(back) == str(error)
    assert back.when == error.when


def test_retry_keeps_the_exception_and_its_repr() -> None:
    cause = ValueError("no")
    assert errors.Retry(exc=cause).exc is cause
    assert errors.Retry(exc=cause).excs == "ValueError('no')"
    assert errors.Retry(exc="text").exc is None
    assert errors.RetryTaskError is errors.Retry


def test_reject_carries_reason_and_requeue() -> None:
    error = errors.Reject("bad", requeue=True)
    assert (error.reason, error.requeue) == ("bad", True)
    assert repr(error) == "reject requeue=True: bad"
    back = pickle.loads(pickle.dumps(error))
    assert (back.reason, back.requeue) == ("bad", True)


def test_max_retries_takes_the_tasks_arguments() -> None:
    error = errors.MaxRetriesExceededError("no more", task_args=(1,), task_kwargs={"a": 2})
    assert (error.task_args, error.task_kwargs) == ((1,), {"a": 2})
    assert errors.MaxRetriesExceededError().task_args == []


def test_command_exception_has_an_exit_code() -> None:
    assert errors.CeleryCommandException("no", exit_code=64).exit_code == 64


def test_not_registered_names_the_task() -> None:
    assert repr(errors.NotRegistered("app.add")) == "NotRegistered('app.add')"


def test_every_class_has_a_docstring_of_its_own() -> None:
    parsed = ast.parse(inspect.getsource(errors))
    bare = [n.name for n in parsed.body if isinstance(n, ast.ClassDef) and not ast.get_docstring(n)]
    assert not bare
