"""Settings as an app keeps them: read, checked, named after where they are from, never shown whole."""

from __future__ import annotations

import copy
import pickle
import types
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.kernel.config import Config, UnknownSetting, read_environment, read_object
from celeriac.kernel.errors import ImproperlyConfigured
from celeriac.kernel.settings import BY_NAME


@pytest.fixture
def conf() -> Config:
    return Config()


def module(**names: Any) -> types.ModuleType:
    """Return a module that holds these names."""
    made = types.ModuleType("settings")
    vars(made).update(names)
    return made


# -- an object and a mapping ---------------------------------------------------------------------


def test_attributes_and_items_are_the_same(conf: Config) -> None:
    conf.task_default_queue = "one"
    assert conf["task_default_queue"] == "one"
    conf["task_default_queue"] = "two"
    assert conf.task_default_queue == "two"
    assert set(conf) == set(BY_NAME)
    assert len(conf) == len(BY_NAME)
    assert dict(conf)["task_default_queue"] == "two"


def test_old_names_are_read_and_written(conf: Config) -> None:
    conf.CELERY_DEFAULT_QUEUE = "old"
    assert conf.task_default_queue == conf["CELERY_TASK_DEFAULT_QUEUE"] == "old"
    conf["CELERYD_CONCURRENCY"] = 7
    assert (conf.worker_concurrency, conf.CELERYD_CONCURRENCY) == (7, 7)
    assert "BROKER_URL" in conf


def test_update_takes_mappings_pairs_and_keywords(conf: Config) -> None:
    conf.update({"task_acks_late": False}, worker_concurrency=3)
    conf.update([("task_default_queue", "q")])
    assert (conf.task_acks_late, conf.worker_concurrency, conf.task_default_queue) == (
        False,
        3,
        "q",
    )


def test_what_is_no_setting(conf: Config) -> None:
    assert not hasattr(conf, "nope")
    assert conf.get("nope", 1) == 1
    assert "nope" not in conf
    assert 5 not in conf
    with pytest.raises(KeyError):
        conf["nope"]
    with pytest.raises(AttributeError):
        conf.nope = 1
    with pytest.raises(ImproperlyConfigured):
        conf.update(nope=1)


def test_settings_of_stores_that_are_not_there_are_kept_and_do_nothing(conf: Config) -> None:
    assert hasattr(conf, "s3_bucket")
    assert conf.s3_bucket is None
    conf.load({"CELERY_S3_BUCKET": "b"}, "here")
    assert conf.s3_bucket == "b"
    assert conf.origin("s3_bucket") == "here"
    del conf["s3_bucket"]
    assert conf.s3_bucket is None


def test_deleting_puts_the_default_back(conf: Config) -> None:
    conf.task_default_queue = "q"
    assert conf.pop("task_default_queue") == "q"
    assert conf.task_default_queue == "celery"
    assert conf.origin("task_default_queue") == "default"
    assert conf.table() == {}
    conf.update(task_default_queue="q", worker_concurrency=2)
    conf.clear()
    assert (conf.task_default_queue, conf.worker_concurrency) == ("celery", None)


def test_origin_and_version(conf: Config) -> None:
    assert conf.origin("task_acks_late") == "default"
    before = conf.version
    conf.load({"CELERY_ACKS_LATE": True}, "settings.py")
    assert conf.origin("task_acks_late") == conf.origin("CELERY_ACKS_LATE") == "settings.py"
    assert conf.version > before
    before = conf.version
    conf.task_acks_late = False
    assert conf.origin("task_acks_late") == "attribute"
    assert conf.version > before
    before = conf.version
    del conf["task_acks_late"]
    assert conf.version > before


def test_two_apps_share_no_default() -> None:
    one, two = Config(), Config()
    one.broker_transport_options["a"] = 1
    assert two.broker_transport_options == Config().broker_transport_options == {}


@pytest.mark.parametrize(
    "through", [copy.deepcopy, copy.copy, lambda c: pickle.loads(pickle.dumps(c))]
)
def test_copies(conf: Config, through: Any) -> None:
    conf.load({"worker_concurrency": 3, "s3_bucket": "b", "task_routes": {"a": "q"}}, "here")
    twin = through(conf)
    assert twin is not conf
    assert dict(twin) == dict(conf)
    assert (twin.s3_bucket, twin.origin("worker_concurrency")) == ("b", "here")
    twin.worker_concurrency = 4
    assert conf.worker_concurrency == 3


def test_result_expires_in_seconds(conf: Config) -> None:
    assert conf.result_expires_seconds == 86400
    for value, seconds in ((60, 60.0), (timedelta(minutes=2), 120.0), (0, None), (None, None)):
        conf.result_expires = value
        assert conf.result_expires_seconds == seconds


# -- checks --------------------------------------------------------------------------------------


def test_old_and_new_names_in_one_source_are_an_error_with_advice(conf: Config) -> None:
    mixed = {"task_default_queue": "a", "CELERY_DEFAULT_QUEUE": "b", "worker_concurrency": 2}
    with pytest.raises(
        ImproperlyConfigured, match=r"settings\.py .*twice.*keep task_default_queue"
    ):
        conf.load(mixed, "settings.py")
    assert conf.table() == {}, "all of it or nothing"


def test_a_wrong_value_changes_nothing(conf: Config) -> None:
    with pytest.raises(ImproperlyConfigured):
        conf.load({"task_default_queue": "a", "worker_concurrency": "many"}, "here")
    assert conf.table() == {}


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("task_acks_late", "perhaps", "True or False"),
        ("task_acks_late", 2, "True or False"),
        ("task_acks_late", [], "True or False"),
        ("task_acks_late", None, "True or False"),
        ("worker_concurrency", "many", "whole number"),
        ("worker_concurrency", 1.5, "whole number"),
        ("worker_concurrency", True, "whole number"),
        ("task_time_limit", "soon", "a number"),
        ("task_time_limit", False, "a number"),
        ("task_default_queue", 5, "a string"),
        ("task_default_queue", None, "a string"),
        ("broker_url", ["a", 5], "a URL, or a list of URLs"),
        ("imports", 5, "a list"),
        ("broker_transport_options", "a=1", "a mapping"),
        ("result_expires", "a day", "timedelta"),
    ],
)
def test_wrong_types_are_named(conf: Config, name: str, value: Any, wanted: str) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        conf[name] = value
    assert name in str(caught.value)
    assert wanted in str(caught.value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    "url", ["redis://u:hush@h/0", f"redis://u:hush{'x' * 200}@h/0", f"{'r' * 90}://u:hushhush@h"]
)
@pytest.mark.parametrize(
    ("name", "wrap"), [("worker_concurrency", str), ("broker_url", lambda u: [u, None])]
)
def test_passwords_are_not_in_errors(conf: Config, url: str, name: str, wrap: Any) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        conf[name] = wrap(url)
    assert "hush" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("task_acks_late", 0, False),
        ("task_acks_late", "on", True),
        ("worker_concurrency", 4.0, 4),
        ("worker_concurrency", "", None),
        ("task_time_limit", timedelta(minutes=1), 60.0),
        ("task_time_limit", 5, 5.0),
        ("imports", "a, b,", ("a", "b")),
        ("imports", ["a"], ("a",)),
        ("broker_url", "amqp://a;amqp://b", "amqp://a;amqp://b"),
        ("broker_url", ["amqp://a", "amqp://b"], "amqp://a;amqp://b"),
        ("accept_content", {"json"}, ("json",)),
        ("result_expires", timedelta(1), timedelta(1)),
        ("result_expires", 5, 5.0),
    ],
)
def test_values_are_made_what_they_should_be(
    conf: Config, name: str, value: Any, kept: Any
) -> None:
    conf[name] = value
    assert conf[name] == kept
    assert type(conf[name]) is type(kept)


@given(st.sampled_from(sorted(BY_NAME)), st.none() | st.text() | st.integers() | st.floats())
def test_a_value_is_kept_or_refused(name: str, value: Any) -> None:
    conf = Config()
    try:
        conf[name] = value
    except ImproperlyConfigured:
        assert conf.table() == {}
    else:
        kept = conf[name]
        conf[name] = kept
        assert conf[name] == kept or kept != kept, "what is kept passes the check again"


# -- sources -------------------------------------------------------------------------------------


def test_a_module_gives_what_is_meant_as_a_setting() -> None:
    source = module(
        broker_url="memory://",
        task_acks_late=False,
        broker_pool_limit=3,
        os=types,
        helper=lambda: None,
        Thing=type("Thing", (), {}),
        DEBUG=True,
        task_id_of=lambda: None,
        version="1.0",
        _broker_url="hidden",
    )
    assert read_object(source) == {
        "broker_url": "memory://",
        "task_acks_late": False,
        "broker_pool_limit": 3,
    }
    old = module(CELERY_ACKS_LATE=False, BROKER_POOL_LIMIT=3, CELERYD=1)
    assert read_object(old) == {"CELERY_ACKS_LATE": False, "BROKER_POOL_LIMIT": 3}


@pytest.mark.parametrize(
    "name", ["task_acks_lat", "broker_ur", "CELERY_TASK_ACKS_LAT", "CELERYD_CONCURENCY", "timezon"]
)
def test_a_name_in_a_module_that_looks_like_a_setting_must_be_one(conf: Config, name: str) -> None:
    with pytest.raises(UnknownSetting, match="did you mean"):
        conf.load(read_object(module(**{name: 1})), "settings.py")


def test_an_object_and_a_mapping() -> None:
    class Base:
        task_default_queue = "inherited"

    class Settings(Base):
        worker_concurrency = 2

        def task_method(self) -> None:
            """No setting."""

    both = {"task_default_queue": "inherited", "worker_concurrency": 2}
    assert read_object(Settings) == both
    assert read_object(Settings()) == both
    assert read_object({"worker_concurrency": 2, "nope": 1}) == {"worker_concurrency": 2, "nope": 1}


@pytest.mark.parametrize("namespace", ["CELERY", "CELERY_"])
def test_a_namespace(namespace: str) -> None:
    names = {
        "CELERY_TASK_DEFAULT_QUEUE": "q",
        "CELERY_BROKER_URL": "memory://",
        "CELERY_ACKS_LATE": False,
        "DEBUG": True,
        "task_serializer": "yaml",
    }
    found = {"task_default_queue": "q", "broker_url": "memory://", "task_acks_late": False}
    assert read_object(names, namespace) == read_object(module(**names), namespace) == found


def test_a_namespace_of_ones_own_and_a_typo_in_it() -> None:
    assert read_object({"Q_WORKER_CONCURRENCY": 2}, "Q") == {"worker_concurrency": 2}
    with pytest.raises(UnknownSetting, match="did you mean Q_WORKER_CONCURRENCY"):
        read_object({"Q_WORKER_CONCURENCY": 2}, "Q")


def test_the_environment() -> None:
    found = read_environment(
        {
            "CELERIAC_WORKER_CONCURRENCY": "4",
            "CELERIAC_TASK_ACKS_LATE": "no",
            "CELERIAC_TASK_TIME_LIMIT": "1.5",
            "CELERIAC_IMPORTS": "a,b",
            "CELERIAC_RESULT_EXPIRES": "60",
            "CELERIAC_TASK_SOFT_TIME_LIMIT": "",
            "CELERIAC_HOME": "/no/setting",
            "CELERY_BROKER_URL": "redis://celery",
            "CELERY_RESULT_BACKEND": "",
            "CELERY_TASK_ACKS_LATE": "only urls are read of Celery's",
            "PATH": "/bin",
        }
    )
    assert found == {
        "worker_concurrency": 4,
        "task_acks_late": False,
        "task_time_limit": 1.5,
        "imports": ("a", "b"),
        "result_expires": 60.0,
        "task_soft_time_limit": None,
        "broker_url": "redis://celery",
    }


def test_celeriacs_own_names_in_the_environment_win() -> None:
    urls = {"CELERIAC_BROKER_URL": "memory://", "CELERY_BROKER_URL": "redis://x"}
    assert read_environment(urls) == {"broker_url": "memory://"}
    with pytest.raises(ImproperlyConfigured, match="worker_concurrency cannot be 'four'"):
        read_environment({"CELERIAC_WORKER_CONCURRENCY": "four"})


# -- what is shown -------------------------------------------------------------------------------


def test_passwords_are_not_shown(conf: Config) -> None:
    conf.update(
        broker_url="redis://:hush@h/0;redis://u:hush@k/0",
        result_backend="db+postgresql://u:hush@h/d?password=hush",
        redis_password="hush",
        security_key="hush",
        s3_secret_access_key="hush",
        broker_read_url=["redis://:hush@h"],
        broker_transport_options={"sentinel_kwargs": {"password": "hush"}, "a": "x://u:hush@h"},
    )
    for text in (conf.humanize(), conf.humanize(with_defaults=True), repr(conf.table())):
        assert "hush" not in text
    assert "broker_url: 'redis://:**@h/0;redis://u:**@k/0'" in conf.humanize()
    assert conf.table(censored=False)["redis_password"] == "hush"
    assert conf.broker_transport_options["sentinel_kwargs"] == {"password": "hush"}
    assert "hush" not in repr(conf)


def test_the_table_has_what_is_set_or_all(conf: Config) -> None:
    conf.worker_concurrency = 2
    assert conf.table() == {"worker_concurrency": 2}
    assert conf.humanize() == "worker_concurrency: 2"
    assert set(conf.table(with_defaults=True)) == set(BY_NAME)
    assert conf.table()["worker_concurrency"] == 2
    conf.task_default_routing_key = "shown"
    assert conf.table()["task_default_routing_key"] == "shown"
