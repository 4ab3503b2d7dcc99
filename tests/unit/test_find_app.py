"""Finding the app that `-A` names: every form that Celery takes, and every way to miss."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from celeriac.cli.find import BrokenModule, NoApp, find_app, find_here, nearest

MAKE = "from celeriac import Celeriac\n{name} = Celeriac({main!r}, set_as_current=False)\n"
_number = itertools.count()

Write = Callable[[str, str], None]


@pytest.fixture
def proj(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A fresh package name in a fresh current folder; forgotten afterwards."""
    name = f"proj{next(_number)}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield name
    for module in set(sys.modules) - before:
        if module.split(".")[0] in {name, "tasks", "celery_app"}:
            del sys.modules[module]


def write(path: str, text: str) -> None:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def make(name: str = "app", main: str = "found") -> str:
    return MAKE.format(name=name, main=main)


@pytest.mark.parametrize("attribute", ["app", "celery", "other"])
def test_module_with_one_app(proj: str, attribute: str) -> None:
    write(f"{proj}.py", make(attribute))
    assert find_app(proj).main == "found"


def test_app_is_preferred_to_celery(proj: str) -> None:
    write(f"{proj}.py", make("celery", "second") + make("app", "first"))
    assert find_app(proj).main == "first"


@pytest.mark.parametrize("named", ["{0}", "{0}.celery", "{0}.celery:app", "{0}.celery.app"])
def test_package_with_celery_module(proj: str, named: str) -> None:
    write(f"{proj}/__init__.py", "")
    write(f"{proj}/celery.py", make())
    assert find_app(named.format(proj)).main == "found"


@pytest.mark.parametrize("named", ["{0}", "{0}.app", "{0}:app"])
def test_package_with_app_module(proj: str, named: str) -> None:
    write(f"{proj}/__init__.py", "")
    write(f"{proj}/app.py", make("celery"))
    if ":" in named:
        # The attribute is the module, once something has imported it.
        write(f"{proj}/__init__.py", f"from {proj} import app\n")
    assert find_app(named.format(proj)).main == "found"


def test_package_that_shadows_the_celery_module(proj: str) -> None:
    """Django's way: the package imports the app from its submodule `celery`."""
    write(f"{proj}/__init__.py", f"from {proj}.celery import app as celery_app\n")
    write(f"{proj}/celery.py", make())
    assert find_app(proj).main == "found"


def test_attribute_path(proj: str) -> None:
    write(f"{proj}.py", make() + "class Holder:\n    inner = app\n")
    assert find_app(f"{proj}:Holder.inner").main == "found"


def test_current_folder_is_on_the_path(proj: str) -> None:
    write(f"{proj}.py", make())
    find_app(proj)
    assert str(Path.cwd()) in sys.path


def message(name: str) -> str:
    with pytest.raises(NoApp) as caught:
        find_app(name)
    return caught.value.format_message()


def test_no_such_module(proj: str) -> None:
    text = message(f"{proj}.mod")
    assert f"no module named '{proj}'" in text
    assert "Tried" in text
    assert str(Path.cwd()) in text


def test_everything_tried_is_listed(proj: str) -> None:
    write(f"{proj}/__init__.py", "app = 3\n")
    text = message(proj)
    assert f"{proj}:app" in text
    assert "a int, not an app" in text
    assert f"{proj}:celery" in text
    assert f"{proj}.celery " in text
    assert f"{proj}.app " in text


def test_several_apps(proj: str) -> None:
    write(f"{proj}.py", make("one") + make("two"))
    assert "several apps: one, two" in message(proj)


def test_one_app_under_two_names(proj: str) -> None:
    write(f"{proj}.py", make("one") + "two = one\n")
    assert find_app(proj).main == "found"


def test_missing_attribute(proj: str) -> None:
    write(f"{proj}.py", make())
    assert "no such attribute" in message(f"{proj}:nope")
    assert "no attribute 'nope'" in message(f"{proj}:nope.app")


def test_app_of_celery_itself(proj: str) -> None:
    write(f"{proj}.py", "from celery import Celery\napp = Celery(set_as_current=False)\n")
    assert "from celeriac import Celery" in message(proj)


@pytest.mark.parametrize("name", ["", "a b", "..", "3x", "proj/celery.py"])
def test_what_is_no_name(proj: str, name: str) -> None:
    with pytest.raises(click.ClickException):
        find_app(name)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("import surely_not_installed\n", ModuleNotFoundError),
        ("from os import surely_not_there\n", ImportError),
        ("1 / 0\n", ZeroDivisionError),
        ("def broken(:\n", SyntaxError),
    ],
)
def test_a_broken_module_shows_its_traceback(
    proj: str, body: str, kind: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    write(f"{proj}/__init__.py", "")
    write(f"{proj}/celery.py", body)
    with pytest.raises(BrokenModule) as caught:
        find_app(proj)
    assert isinstance(caught.value.error, kind)
    caught.value.show()
    shown = capsys.readouterr().err
    assert f"{proj}/celery.py" in shown
    assert "cli/find.py" not in shown
    assert f"importing {proj}.celery failed with {kind.__name__}" in shown


def test_a_missing_library_is_not_taken_for_the_module(proj: str) -> None:
    """`proj` exists and imports something that does not: that is no "no module named proj"."""
    write(f"{proj}.py", f"import {proj}_helpers\n")
    with pytest.raises(BrokenModule):
        find_app(proj)


def test_here_finds_tasks(proj: str) -> None:
    write("tasks.py", make())
    found = find_here()
    assert found is not None
    assert found.main == "found"


def test_here_ignores_what_is_elsewhere(proj: str) -> None:
    write("elsewhere/tasks.py", make())
    sys.path.insert(0, str(Path("elsewhere").resolve()))
    assert find_here() is None


def test_here_passes_over_a_module_without_app(proj: str) -> None:
    write("celery_app.py", "x = 1\n")
    write("tasks.py", make())
    assert find_here() is not None


def test_nearest() -> None:
    assert nearest("wroker", ["worker", "call"]) == "; did you mean 'worker'?"
    assert nearest("zzz", ["worker"]) == ""
