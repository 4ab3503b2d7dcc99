"""The app: settings from everywhere, tasks and their names, shared tasks, autodiscovery."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celeriac import Celeriac, Celery, Task, current_app, shared_task
from celeriac.kernel.errors import ImproperlyConfigured, NotRegistered
from celeriac.testing import TaskKit


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a module from values."""

    def make(name: str, **values: Any) -> types.ModuleType:
        found = types.ModuleType(name)
        found.__dict__.update(values)
        monkeypatch.setitem(sys.modules, name, found)
        return found

    return make


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_celery_is_the_same_class() -> None:
    assert Celery is Celeriac


def test_keywords_become_settings() -> None:
    app = Celeriac(
        "x", broker="memory://a", backend="memory://b", include=["m"], task_default_queue="q"
    )
    assert app.conf.broker_url == "memory://a"
    assert app.conf.result_backend == "memory://b"
    assert list(app.conf.include) == ["m"]
    assert app.conf.task_default_queue == "q"


def test_a_mistyped_keyword_names_the_right_one() -> None:
    with pytest.raises(ImproperlyConfigured, match="task_acks_late"):
        Celeriac("x", task_ack_late=True, set_as_current=False)


def test_config_from_a_module_and_by_its_name(app: Celeriac, module: Any) -> None:
    found = module("celeryconfig_x", task_default_queue="from-module", result_expires=60)
    app.config_from_object(found)
    assert app.conf.task_default_queue == "from-module"
    other = Celeriac("y", set_as_current=False)
    other.config_from_object("celeryconfig_x")
    assert other.conf.task_default_queue == "from-module"
    assert other.result_expires == 60


def test_config_from_an_attribute_with_a_namespace(app: Celeriac, module: Any) -> None:
    class Settings:
        CELERY_TASK_DEFAULT_QUEUE = "django"
        CELERY_TASK_ALWAYS_EAGER = True
        DEBUG = True
        DATABASES: dict[str, Any] = {}

    module("settings_x", settings=Settings())
    app.config_from_object("settings_x:settings", namespace="CELERY")
    assert app.conf.task_default_queue == "django"
    assert app.conf.task_always_eager is True


def test_a_mistyped_setting_in_a_namespace_is_named(app: Celeriac, module: Any) -> None:
    module("settings_y", CELERY_TASK_ALWAYS_EGER=True)
    with pytest.raises(ImproperlyConfigured, match=r"(?i)task_always_eager"):
        app.config_from_object("settings_y", namespace="CELERY", force=True)


def test_config_from_a_mapping_and_an_object(app: Celeriac) -> None:
    app.config_from_object({"task_default_queue": "mapped"})
    assert app.conf.task_default_queue == "mapped"
    app.config_from_object(types.SimpleNamespace(task_default_queue="object"))
    assert app.conf.task_default_queue == "object"


def test_a_missing_module_is_an_error_unless_silent(app: Celeriac) -> None:
    with pytest.raises(ImportError):
        app.config_from_object("no_such_module_x", force=True)
    app.config_from_object("no_such_module_x", silent=True, force=True)
    assert app.conf.task_default_queue == "celery"


def test_config_from_envvar(app: Celeriac, module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROJ_CONFIG", raising=False)
    assert app.config_from_envvar("PROJ_CONFIG", silent=True) is False
    with pytest.raises(ImproperlyConfigured, match="PROJ_CONFIG"):
        app.config_from_envvar("PROJ_CONFIG")
    module("celeryconfig_env", task_default_queue="env")
    monkeypatch.setenv("PROJ_CONFIG", "celeryconfig_env")
    assert app.config_from_envvar("PROJ_CONFIG") is True
    assert app.conf.task_default_queue == "env"


def test_keywords_beat_the_configuration(module: Any) -> None:
    module("celeryconfig_z", task_default_queue="module", task_default_priority=3)
    app = Celeriac("x", task_default_queue="keyword", set_as_current=False)
    app.config_from_object("celeryconfig_z")
    assert app.conf.task_default_queue == "keyword"
    assert app.conf.task_default_priority == 3


def test_the_environment_names_broker_and_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERIAC_BROKER_URL", "memory://from-env")
    monkeypatch.setenv("CELERIAC_RESULT_BACKEND", "memory://results")
    app = Celeriac("x", set_as_current=False)
    assert app.conf.broker_url == "memory://from-env"
    assert app.conf.result_backend == "memory://results"


def test_conf_is_attributes_and_mapping(app: Celeriac) -> None:
    app.conf.task_default_queue = "a"
    assert app.conf["task_default_queue"] == "a"
    app.conf["task_default_queue"] = "b"
    assert app.conf.task_default_queue == "b"
    app.conf.update(task_default_queue="c", task_default_priority=4)
    assert (app.conf.get("task_default_queue"), app.conf.task_default_priority) == ("c", 4)
    with pytest.raises(ImproperlyConfigured, match="task_default_queue"):
        app.conf.update(task_default_queu="x")
    with pytest.raises((AttributeError, ImproperlyConfigured)):
        app.conf.task_defalt_queue = "x"


def test_changed_settings_reach_the_next_call(app: Celeriac, kit: TaskKit) -> None:
    @app.task(name="t")
    def t() -> None: ...

    t.delay()
    app.conf.task_default_queue = "other"
    t.delay()
    app.conf.task_routes = {"t": {"queue": "routed"}}
    t.delay()
    assert [one.queue for one in kit.sent()] == ["celery", "other", "routed"]


# -- tasks ----------------------------------------------------------------------------------------


def test_names(app: Celeriac) -> None:
    @app.task
    def plain() -> None: ...

    @app.task(name="own.name")
    def named() -> None: ...

    def main() -> None: ...

    main.__module__ = "__main__"
    assert plain.name == f"{__name__}.plain"
    assert named.name == "own.name"
    assert app.task(main).name == "proj.main"
    assert app.tasks["own.name"] is named
    assert "own.name" in app.tasks


def test_gen_task_name_can_be_overridden() -> None:
    class App(Celeriac):
        def gen_task_name(self, name: str, module: str) -> str:
            return f"custom.{name}"

    app = App("x", set_as_current=False)

    @app.task
    def t() -> None: ...

    assert t.name == "custom.t"


def test_an_unknown_task_says_its_name(app: Celeriac) -> None:
    with pytest.raises(NotRegistered, match=r"no\.such"):
        app.tasks["no.such"]


def test_options_become_attributes(app: Celeriac) -> None:
    @app.task(max_retries=7, acks_late=False, my_own="x", queue="q")
    def t() -> None: ...

    assert (t.max_retries, t.acks_late, t.my_own, t.queue) == (7, False, "x", "q")


def test_a_task_is_still_a_function(app: Celeriac) -> None:
    @app.task
    def add(x: int, y: int = 2) -> int:
        """Add."""
        return x + y

    assert add(1) == 3
    assert add.__doc__ == "Add."
    assert add.__name__ == "add"


def test_the_same_name_twice_is_the_first_task(app: Celeriac) -> None:
    first = app.task(name="same")(lambda: 1)
    assert app.task(name="same")(lambda: 2) is first


def test_base_classes_and_hooks(app: Celeriac, kit: TaskKit) -> None:
    calls: list[tuple[Any, ...]] = []

    class Base(Task[..., Any]):
        abstract = True

        def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
            calls.append(("before_start", list(args), kwargs))

        def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
            calls.append(("on_success", retval))

        def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
            calls.append(("on_failure", repr(exc), "ValueError" in str(einfo)))

        def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
            calls.append(("on_retry", repr(exc)))

        def after_return(
            self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
        ) -> None:
            calls.append(("after_return", status))

    @app.task(base=Base, bind=True, name="t", default_retry_delay=0)
    def t(self: Any, x: int) -> int:
        if x == 0 and not self.request.retries:
            raise self.retry(exc=KeyError("again"))
        if x < 0:
            raise ValueError(x)
        return x

    t.delay(1)
    kit.run_until_empty()
    assert calls == [("before_start", [1], {}), ("on_success", 1), ("after_return", "SUCCESS")]
    calls.clear()
    t.delay(-1)
    kit.run_until_empty(failures="keep")
    assert calls[1:] == [("on_failure", "ValueError(-1)", True), ("after_return", "FAILURE")]
    calls.clear()
    t.delay(0)
    kit.run_until_empty()
    assert [call[0] for call in calls] == [
        *("before_start", "on_retry", "after_return"),
        *("before_start", "on_success", "after_return"),
    ]
    assert calls[2] == ("after_return", "RETRY")


def test_a_hook_that_fails_makes_a_success_a_failure(app: Celeriac, kit: TaskKit) -> None:
    class Base(Task[..., Any]):
        def on_success(self, *args: Any) -> None:
            raise RuntimeError("hook")

    t = app.task(base=Base, name="t")(lambda: 1)
    result = t.delay()
    kit.run_until_empty(failures="keep")
    assert result.state == "FAILURE"
    assert "hook" in str(result.result)


def test_an_overridden_call_is_honoured(app: Celeriac, kit: TaskKit) -> None:
    class Base(Task[..., Any]):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return ["wrapped", self.run(*args, **kwargs)]

    t = app.task(base=Base, name="t")(lambda x: x)
    assert t.delay(1).get() == ["wrapped", 1]


def test_a_class_based_task(app: Celeriac, kit: TaskKit) -> None:
    class Adder(Task[..., Any]):
        name = "adder"

        def run(self, x: int, y: int) -> int:
            return x + y

    adder = app.register_task(Adder())
    assert adder.delay(1, 2).get() == 3
    with pytest.raises(TypeError):
        adder.delay(1)


def test_app_task_class_is_assignable(app: Celeriac, kit: TaskKit) -> None:
    class Base(Task[..., Any]):
        mark = "mine"

    app.Task = Base
    t = app.task(name="t")(lambda: None)
    assert t.mark == "mine"


def test_bind_gives_the_task(app: Celeriac, kit: TaskKit) -> None:
    @app.task(bind=True, name="t")
    def t(self: Any, x: int) -> list[Any]:
        return [self.name, self.request.id, x]

    result = t.delay(3)
    assert result.get() == ["t", result.id, 3]


def test_annotations_change_tasks(kit: TaskKit) -> None:
    app = Celeriac(
        "x",
        set_as_current=False,
        task_annotations={"*": {"max_retries": 9}, "t": {"rate_limit": "1/s"}},
    )
    t = app.task(name="t")(lambda: None)
    assert (t.max_retries, t.rate_limit) == (9, "1/s")


# -- shared tasks and the current app -------------------------------------------------------------


@shared_task(name="tests.shared")
def shared(x: int) -> int:
    return x * 2


def test_a_shared_task_belongs_to_each_app(app: Celeriac, kit: TaskKit) -> None:
    other = Celeriac("other", set_as_current=False)
    assert app.tasks["tests.shared"].app is app
    assert other.tasks["tests.shared"].app is other
    assert shared.app is app  # the kit's app is the current one
    assert shared.delay(4).get() == 8
    kit.assert_sent(shared, args=[4])
    with TaskKit(other) as others:
        shared.delay(5)
        others.assert_sent("tests.shared", args=[5])
    kit.assert_not_sent(shared, args=[5])


def test_the_current_app_inside_a_task_is_its_own(app: Celeriac, kit: TaskKit) -> None:
    @app.task(name="t")
    def t() -> bool:
        return current_app.main == "proj" and bool(app.current_task.name == "t")

    Celeriac("newest", broker="memory://")
    assert t.delay().get() is True


# -- imports --------------------------------------------------------------------------------------


def test_autodiscover(app: Celeriac, packages: Path) -> None:
    (packages / "pkg_with").mkdir()
    (packages / "pkg_with/__init__.py").write_text("")
    (packages / "pkg_with/tasks.py").write_text(
        "from celeriac import shared_task\n@shared_task\ndef found(): pass\n"
    )
    (packages / "pkg_without").mkdir()
    (packages / "pkg_without/__init__.py").write_text("")
    app.autodiscover_tasks(["pkg_with", "pkg_without"])
    assert "pkg_with.tasks" not in sys.modules, "it is lazy"
    app.import_modules()
    assert "pkg_with.tasks.found" in app.tasks


def test_autodiscover_of_a_missing_package_is_an_error(app: Celeriac) -> None:
    app.autodiscover_tasks(lambda: ["no_such_package_x"])
    with pytest.raises(ModuleNotFoundError, match="no_such_package_x"):
        app.import_modules()


def test_autodiscover_does_not_hide_a_broken_module(app: Celeriac, packages: Path) -> None:
    (packages / "pkg_broken").mkdir()
    (packages / "pkg_broken/__init__.py").write_text("")
    (packages / "pkg_broken/tasks.py").write_text("import no_such_module_y\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_y"):
        app.autodiscover_tasks(["pkg_broken"], force=True)


def test_include_is_imported(packages: Path) -> None:
    (packages / "included_x.py").write_text("imported = True\n")
    app = Celeriac("x", include=["included_x"], set_as_current=False)
    app.import_modules()
    assert "included_x" in sys.modules


def test_the_environment_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "memory://theirs")
    app = Celeriac("env", broker="memory://code", set_as_current=False)
    assert app.broker_url == "memory://theirs"
    monkeypatch.setenv("CELERIAC_BROKER_URL", "memory://ours")
    other = Celeriac("env", broker="memory://code", set_as_current=False)
    assert other.broker_url == "memory://ours"


def test_a_broker_given_in_parts_is_refused() -> None:
    app = Celeriac("parts", broker_host="rabbit.example", set_as_current=False)
    with pytest.raises(ImproperlyConfigured, match="broker_url"):
        _ = app.broker_url
