"""The table of settings: Celery's names are known, typos are refused, and its page is up to date."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from tests.support.source import parsed

from celeriac.kernel.accepted import FOREIGN
from celeriac.kernel.config import Config, UnknownSetting
from celeriac.kernel.settings import BY_NAME, OLD_NAMES, SETTINGS

PROJECT = Path(__file__).parents[2]

CELERYS = """
    accept_content cache_backend cache_backend_options enable_utc imports include
    timezone
    beat_cron_starting_deadline beat_max_loop_interval beat_schedule
    beat_schedule_filename beat_scheduler beat_sync_every
    broker_channel_error_retry broker_connection_max_retries broker_connection_retry
    broker_connection_retry_on_startup broker_connection_timeout
    broker_failover_strategy broker_heartbeat broker_heartbeat_checkrate broker_host
    broker_login_method broker_native_delayed_delivery_queue_type broker_password
    broker_pool_acquire_timeout broker_pool_limit broker_port broker_read_url
    broker_transport broker_transport_options broker_url broker_use_ssl broker_user
    broker_vhost broker_write_url
    control_exchange control_queue_durable control_queue_exclusive control_queue_expires
    control_queue_ttl
    database_create_tables_at_setup database_engine_callback database_engine_options
    database_short_lived_sessions database_table_names database_table_schemas
    database_url
    event_exchange event_queue_durable event_queue_exclusive event_queue_expires
    event_queue_prefix event_queue_ttl event_serializer
    redis_backend_use_ssl redis_db redis_host redis_max_connections redis_password
    redis_port redis_retry_on_timeout redis_socket_connect_timeout
    redis_socket_keepalive redis_socket_timeout redis_username
    result_accept_content result_backend result_backend_always_retry
    result_backend_base_sleep_between_retries_ms result_backend_max_retries
    result_backend_max_sleep_between_retries_ms result_backend_transport_options
    result_cache_max result_chord_join_timeout result_chord_retry_interval
    result_compression result_exchange result_exchange_type result_expires
    result_extended result_persistent result_serializer
    security_cert_store security_certificate security_digest security_key
    security_key_password
    task_acks_late task_acks_on_failure task_acks_on_failure_or_timeout
    task_acks_on_timeout task_allow_error_cb_on_chord_header task_always_eager
    task_annotations task_compression task_create_missing_queue_exchange_type
    task_create_missing_queue_type task_create_missing_queues task_default_delivery_mode
    task_default_exchange task_default_exchange_type task_default_priority
    task_default_queue task_default_queue_type task_default_rate_limit
    task_default_routing_key task_eager_propagates task_ignore_result
    task_inherit_parent_priority task_protocol task_publish_retry
    task_publish_retry_policy task_queue_max_priority task_queues
    task_reject_on_worker_lost task_remote_tracebacks task_routes task_send_sent_event
    task_serializer task_soft_time_limit task_store_eager_result
    task_store_errors_even_if_ignored task_time_limit task_track_started
    worker_agent worker_autoscaler worker_cancel_long_running_tasks_on_connection_loss
    worker_concurrency worker_consumer worker_deduplicate_successful_tasks
    worker_detect_quorum_queues worker_direct worker_disable_prefetch
    worker_disable_rate_limits worker_enable_prefetch_count_reduction
    worker_enable_remote_control worker_enable_soft_shutdown_on_idle
    worker_eta_task_limit worker_hijack_root_logger worker_log_color worker_log_format
    worker_lost_wait worker_max_memory_per_child worker_max_tasks_per_child worker_pool
    worker_pool_putlocks worker_pool_restarts worker_prefetch_multiplier
    worker_proc_alive_timeout worker_redirect_stdouts worker_redirect_stdouts_level
    worker_send_task_events worker_soft_shutdown_timeout worker_state_db
    worker_task_log_format worker_timer worker_timer_precision
    beat_enable_remote_control beat_remote_control_max_tick_age result_chord_expires
    result_failure_expires task_repr_maxlevels task_retry_on_worker_lost
    worker_log_datefmt worker_pool_start_method worker_task_log_datefmt
""".split()
"""Every setting of Celery 5.6 but those of stores that celeriac has not got, and 5.7's new ones."""

OLD = {
    "BROKER_URL": "broker_url",
    "BROKER_POOL_LIMIT": "broker_pool_limit",
    "CELERYBEAT_SCHEDULE": "beat_schedule",
    "CELERYD_AUTOSCALER": "worker_autoscaler",
    "CELERYD_CONCURRENCY": "worker_concurrency",
    "CELERYD_HIJACK_ROOT_LOGGER": "worker_hijack_root_logger",
    "CELERYD_TASK_TIME_LIMIT": "task_time_limit",
    "CELERY_ACKS_LATE": "task_acks_late",
    "CELERY_ACKS_ON_FAILURE": "task_acks_on_failure",
    "CELERY_ALWAYS_EAGER": "task_always_eager",
    "CELERY_DEFAULT_PRIORITY": "task_default_priority",
    "CELERY_DISABLE_RATE_LIMITS": "worker_disable_rate_limits",
    "CELERY_MESSAGE_COMPRESSION": "task_compression",
    "CELERY_RESULT_DBURI": "database_url",
    "CELERY_ROUTES": "task_routes",
    "CELERY_SEND_EVENTS": "worker_send_task_events",
    "CELERY_TASK_RESULT_EXPIRES": "result_expires",
}


def test_the_list_is_whole() -> None:
    assert len(CELERYS) == len(set(CELERYS)) == 167


@pytest.mark.parametrize("name", CELERYS)
def test_celerys_settings_are_known(name: str) -> None:
    value = BY_NAME[name].default
    for written in (name, name.upper(), f"CELERY_{name.upper()}"):
        conf = Config()
        conf.load({written: value}, "here")
        assert conf.origin(name) == "here", written


@pytest.mark.parametrize(("old", "name"), OLD.items())
def test_old_names(old: str, name: str) -> None:
    conf = Config()
    conf[old] = BY_NAME[name].default
    assert conf.origin(name) == "attribute"


def test_every_old_name_that_celery_itself_knows() -> None:
    defaults = pytest.importorskip("celery.app.defaults")
    conf = Config()
    for old, name in defaults._TO_NEW_KEY.items():
        if old.isupper() and name in BY_NAME:
            assert old in conf
            conf.load({old: BY_NAME[name].default}, old)
            assert conf.origin(name) == old


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_a_typo_is_refused_and_the_right_name_offered(name: str) -> None:
    middle = len(name) * 2 // 3
    for typo in (
        name[:-2] + name[-1:],
        name[:middle] + "z" + name[middle:],
        f"{name}z",
        name[:middle] + ("q" if name[middle] != "q" else "x") + name[middle + 1 :],
    ):
        if typo in BY_NAME:
            continue
        with pytest.raises(UnknownSetting) as caught:
            Config().load({typo: None}, "here")
        assert repr(typo) in str(caught.value)
        assert f"did you mean {name}?" in str(caught.value)


def test_an_upper_case_typo_is_answered_in_upper_case() -> None:
    with pytest.raises(UnknownSetting, match="did you mean CELERY_TASK_ACKS_LATE"):
        Config().load({"CELERY_TASK_ACK_LATE": True}, "here")


def test_a_name_like_no_other_points_to_the_list() -> None:
    with pytest.raises(UnknownSetting, match="celeriac settings --all"):
        Config().load({"zzzzzzzz": True}, "here")


def test_the_table_is_sound() -> None:
    assert len(BY_NAME) == len(SETTINGS)
    assert set(OLD_NAMES.values()) == set(BY_NAME)
    for setting in SETTINGS:
        assert setting.name.islower()
        assert setting.help.endswith("."), setting
        assert not setting.name.startswith(tuple(FOREIGN))
        for old in setting.old:
            assert OLD_NAMES[old] == setting.name, "one old name, one setting"


def test_defaults_pass_their_own_check() -> None:
    conf = Config()
    for setting in SETTINGS:
        conf[setting.name] = setting.default
        assert conf[setting.name] == setting.default


def _tool() -> ModuleType:
    path = PROJECT / "tools" / "settings_reference.py"
    spec = importlib.util.spec_from_file_location("settings_reference", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date() -> None:
    tool = _tool()
    assert tool.PAGE.read_text(encoding="utf-8") == tool.page(), (
        "run .venv/bin/python tools/settings_reference.py"
    )
    for name in BY_NAME:
        assert f"| `{name}` |" in tool.page()


def test_every_setting_is_read_somewhere_or_says_why_it_is_not() -> None:
    source = PROJECT / "src" / "celeriac"
    read: set[str] = set()
    for path in source.rglob("*.py"):
        if path == source / "kernel" / "settings.py":
            continue
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Attribute):
                owner = ast.unparse(node.value)
                if owner.endswith("conf") or "config" in owner:
                    read.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                read.add(node.value)
    unread = {setting.name for setting in SETTINGS if not setting.ignored} - read
    assert not unread, "implement it, or say in `ignored` why it has no effect"
    page = (PROJECT / "docs" / "settings.md").read_text()
    for setting in SETTINGS:
        if setting.ignored:
            assert len(setting.ignored) > 20 and f"`{setting.name}`" in page
