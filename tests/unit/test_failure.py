"""Exceptions to plain data and back, whatever they do."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import types
from typing import Any

import pytest

from celeriac.kernel import errors
from celeriac.kernel.failure import MAX_ARG, describe, rebuild, traceback_text
from celeriac.kernel.plain import is_plain


class Keyword(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")


class Two(Exception):
    def __init__(self, a: object, b: object) -> None:
        super().__init__(f"{a} and {b}")


class Worded(Exception):
    def __init__(self, name: str) -> None:
        super().__init__(f"bad {name}")


class Silent(Exception):
    def __init__(self, a: int) -> None:
        self.a = a


class RaisesOnText(Exception):
    def __init__(self, a: object) -> None:
        if isinstance(a, str):
            raise RuntimeError("no text")


class ExitsOnText(Exception):
    def __init__(self, a: object) -> None:
        super().__init__("exits")
        if isinstance(a, str):
            sys.exit(3)


class BadReduce(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("no")


class BadStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class ExitsOnStr(Exception):
    def __str__(self) -> str:
        raise SystemExit(4)

    __repr__ = __str__


class BadArgs(Exception):
    @property
    def args(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no")


class NotReally(Exception):
    def __new__(cls, *args: object) -> Any:
        return super().__new__(cls, *args) if not args or args[0] != "text" else "text"


class BadRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class ExitsOnRepr:
    def __repr__(self) -> str:
        sys.exit(5)


class Base(BaseException):
    pass


class Outer:
    class Inner(Exception):
        pass


def noted() -> Exception:
    exc = ValueError("noted")
    exc.add_note("a note")
    return exc


def endless() -> Exception:
    one, two = ValueError(1), ValueError(2)
    one.__cause__, two.__cause__ = two, one
    return one


def long_chain(length: int = 20_000) -> Exception:
    exc = first = ValueError(0)
    for number in range(length):
        exc.__cause__ = ValueError(number)
        exc = exc.__cause__
    return first


def deep_group() -> BaseException:
    exc: Exception = ValueError(1)
    for _ in range(500):
        exc = ExceptionGroup("deep", [exc])
    return exc


def local() -> Exception:
    class Local(Exception):
        pass

    return Local("local")


def doubled() -> list[Any]:
    value: list[Any] = [1]
    for _ in range(100):
        value = [value, value]
    return value


itself: list[Any] = []
itself.append(itself)

ZOO = [
    ValueError("a"), KeyError("k"), KeyError(("a", 1)), Exception(), Exception(None),
    OSError(2, "No such file", "/x"), FileNotFoundError("x"), UnicodeDecodeError("utf-8", b"x", 0, 1, "r"),
    SyntaxError("bad", ("f", 1, 2, "text")), StopIteration(3), SystemExit(1), KeyboardInterrupt(),
    GeneratorExit(), asyncio.CancelledError("c"), json.JSONDecodeError("m", "doc", 0),
    subprocess.CalledProcessError(1, ["a"]), ExceptionGroup("g", [ValueError(1), KeyError(2)]),
    BaseExceptionGroup("g", [Base(1)]), ExceptionGroup("wide", [ValueError(n) for n in range(50_000)]),
    deep_group(), Keyword(code=1), Two(1, 2), Worded("name"), Silent(1), RaisesOnText(1),
    ExitsOnText(1), BadReduce("r"), BadStr("s"), ExitsOnStr("s"), BadArgs("a"), NotReally("n"),
    Base("b"), Outer.Inner("i"), local(), noted(), endless(), long_chain(),
    ValueError(BadRepr()), ValueError(ExitsOnRepr()), ValueError([BadRepr()] * 3), ValueError("x" * 10**8),
    ValueError(b"x" * 10**7), ValueError(list(range(10**6))), ValueError(itself), ValueError(doubled()),
    ValueError(*range(10_000)), ValueError("\ud800"), ValueError(["\ud800"]), ValueError(10**5000),
    ValueError(float("nan")), ValueError({1: 2}), ValueError({"a": [1, None]}), ValueError(object()),
    ValueError({"__type__": "date", "__value__": "x"}), ValueError(2**70), ValueError(ValueError(1)),
    type("", (Exception,), {})("unnamed"), type("Ünï", (Exception,), {})("u"),
    errors.Retry("m", ValueError(1), 3), errors.Reject("r", requeue=True), errors.NotRegistered("t"),
]  # fmt: skip


@pytest.mark.parametrize("exc", ZOO, ids=lambda exc: type(exc).__name__)
def test_zoo(exc: BaseException) -> None:
    began = time.thread_time()  # of this thread alone: others' work is no matter of it
    data = describe(exc)
    text = traceback_text(exc)
    assert time.thread_time() - began < 2
    assert data.keys() == {"exc_type", "exc_message", "exc_module"}
    assert is_plain(data)
    assert len(json.dumps(data, ensure_ascii=False).encode()) < 65 * (MAX_ARG + 1000)
    assert len(text.encode()) <= MAX_ARG
    again = rebuild(json.loads(json.dumps(data)))
    assert isinstance(again, BaseException)
    assert type(again).__name__ in (type(exc).__name__, "Exception")
    assert type(again).__module__ in (type(exc).__module__, "builtins")
    assert describe(again)["exc_message"] == json.loads(json.dumps(data["exc_message"]))


@pytest.mark.parametrize("exc", [ValueError("a", 1), KeyError("k"), Worded("n"), Outer.Inner(1)])
def test_the_same_class_and_text(exc: Exception) -> None:
    modules = {__name__: sys.modules.get(__name__) or types.SimpleNamespace(**globals())}
    again = rebuild(describe(exc), {**sys.modules, **modules})
    assert type(again) is type(exc)
    assert (again.args, str(again)) == (exc.args, str(exc))


@pytest.mark.parametrize("size", [MAX_ARG, MAX_ARG + 1, 10**6])
@pytest.mark.parametrize("char", ["a", "é", "😀", "\ud800"])
def test_long_texts_are_cut(size: int, char: str) -> None:
    (text,) = describe(ValueError(char * size))["exc_message"]
    assert len(text.encode()) <= MAX_ARG
    assert len(text.encode()) > MAX_ARG // 8


@pytest.mark.parametrize(
    ("exc", "module"),
    [
        (errors.TaskRevokedError("expired"), "celery.exceptions"),
        (errors.SoftTimeLimitExceeded(3), "billiard.exceptions"),
        (errors.TimeLimitExceeded(3), "billiard.exceptions"),
        (errors.WorkerLostError("x"), "billiard.exceptions"),
        (errors.Terminated(15), "billiard.exceptions"),
        (errors.EncodeError("x"), "kombu.exceptions"),
        (errors.WireError("x"), "celery.exceptions"),
    ],
)
def test_own_exceptions_go_under_celerys_names(exc: Exception, module: str) -> None:
    data = describe(exc)
    assert data["exc_module"] == module
    again = rebuild(data)
    assert type(again) is type(exc)
    assert again.args == exc.args


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"), ("builtins", "eval"), ("builtins", "exec"), ("builtins", "print"),
        ("subprocess", "Popen"), ("os", "path.os.system"), ("celery.exceptions", "_dt.datetime"),
        ("celery.exceptions", "builtins.eval"), ("builtins", "object"), ("builtins", "type"),
    ],
)  # fmt: skip
def test_only_exceptions_are_called(module: str, name: str, tmp_path: Any) -> None:
    proof = tmp_path / "called"
    exc = rebuild({"exc_type": name, "exc_module": module, "exc_message": f"touch {proof}"})
    assert isinstance(exc, Exception)
    assert exc.args == (f"touch {proof}",)
    assert not proof.exists()


def test_nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = types.ModuleType("lazy")
    lazy.__getattr__ = lambda name: os.abort()  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "lazy", lazy)
    monkeypatch.setitem(sys.modules, "none", None)  # type: ignore[arg-type]
    monkeypatch.delitem(sys.modules, "this", raising=False)
    for module in ("lazy", "none", "this", None, 3, ["x"]):
        exc = rebuild({"exc_type": "SomeError", "exc_module": module, "exc_message": ["a", 1]})
        assert type(exc).__name__ == "SomeError"
        assert exc.args == ("a", 1)
    assert "this" not in sys.modules


@pytest.mark.parametrize(
    "data",
    [{}, {"exc_type": None}, {"exc_type": 3, "exc_message": None}, {"exc_type": "a\0b"},
     {"exc_type": "x" * 10**6}, {"exc_type": "a..b.", "exc_module": "os"}, {"exc_type": "\ud800"},
     {"exc_type": "E", "exc_message": {"a": 1}}],
)  # fmt: skip
def test_odd_data(data: dict[str, Any]) -> None:
    assert isinstance(rebuild(data), Exception)


def test_made_classes_are_kept() -> None:
    data = {"exc_type": "Gone", "exc_module": "gone", "exc_message": ["x"]}
    assert type(rebuild(data)) is type(rebuild(data))
    assert str(rebuild(data)) == "x"


def test_traceback_has_causes_and_notes() -> None:
    try:
        try:
            raise noted()
        except ValueError as first:
            raise KeyError("second") from first
    except KeyError as exc:
        text = traceback_text(exc)
    for words in (
        "ValueError: noted",
        "a note",
        "direct cause",
        "KeyError: 'second'",
        "raise noted",
    ):
        assert words in text
    assert len(traceback_text(ValueError("x" * 10_000), 500)) <= 500
