"""Settings of Celery that celeriac accepts and does nothing with, each with the reason.

Owns: ACCEPTED, FOREIGN.  May import: kernel.
"""

from __future__ import annotations

from celeriac.kernel.setting import Setting

_HUB = "celeriac has its own engine in place of this part of Celery's"
_BUS = "celeriac's bus has names, bounds and formats of its own"
_SIGNED = "celeriac does not sign messages"
_SELF = "celeriac does this by itself"
_DB = "belongs to Celery's SQLAlchemy store, which celeriac has no use for"


_OLD = {
    "beat_enable_remote_control": "CELERYBEAT_ENABLE_REMOTE_CONTROL",
    "beat_remote_control_max_tick_age": "CELERYBEAT_REMOTE_CONTROL_MAX_TICK_AGE",
    "beat_sync_every": "CELERYBEAT_SYNC_EVERY",
    "result_cache_max": "CELERY_MAX_CACHED_RESULTS",
    "database_url": "CELERY_RESULT_DBURI",
    "database_engine_options": "CELERY_RESULT_ENGINE_OPTIONS",
    "database_short_lived_sessions": "CELERY_RESULT_DB_SHORT_LIVED_SESSIONS",
    "database_table_names": "CELERY_RESULT_DB_TABLENAMES",
    "task_create_missing_queue_type": "CELERY_CREATE_MISSING_QUEUE_TYPE",
    "task_create_missing_queue_exchange_type": "CELERY_CREATE_MISSING_QUEUE_EXCHANGE_TYPE",
    "task_default_delivery_mode": "CELERY_DEFAULT_DELIVERY_MODE",
    "task_retry_on_worker_lost": "CELERY_RETRY_ON_WORKER_LOST",
    "task_remote_tracebacks": "CELERY_REMOTE_TRACEBACKS",
    "task_repr_maxlevels": "CELERY_REPR_MAXLEVELS",
    "worker_agent": "CELERYD_AGENT",
    "worker_autoscaler": "CELERYD_AUTOSCALER",
    "worker_cancel_long_running_tasks_on_connection_loss": "CELERYD_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS",
    "worker_soft_shutdown_timeout": "CELERYD_SOFT_SHUTDOWN_TIMEOUT",
    "worker_enable_soft_shutdown_on_idle": "CELERYD_ENABLE_SOFT_SHUTDOWN_ON_IDLE",
    "worker_consumer": "CELERYD_CONSUMER",
    "worker_disable_rate_limits": "CELERY_DISABLE_RATE_LIMITS",
    "worker_deduplicate_successful_tasks": "CELERYD_DEDUPLICATE_SUCCESSFUL_TASKS",
    "worker_hijack_root_logger": "CELERYD_HIJACK_ROOT_LOGGER",
    "worker_log_datefmt": "CELERYD_LOG_DATEFMT",
    "worker_lost_wait": "CELERYD_WORKER_LOST_WAIT",
    "worker_pool_putlocks": "CELERYD_POOL_PUTLOCKS",
    "worker_pool_restarts": "CELERYD_POOL_RESTARTS",
    "worker_pool_start_method": "CELERYD_POOL_START_METHOD",
    "worker_eta_task_limit": "CELERYD_ETA_TASK_LIMIT",
    "worker_enable_prefetch_count_reduction": "CELERYD_ENABLE_PREFETCH_COUNT_REDUCTION",
    "worker_disable_prefetch": "CELERYD_DISABLE_PREFETCH",
    "worker_redirect_stdouts": "CELERY_REDIRECT_STDOUTS",
    "worker_redirect_stdouts_level": "CELERY_REDIRECT_STDOUTS_LEVEL",
    "worker_state_db": "CELERYD_STATE_DB",
    "worker_task_log_datefmt": "CELERYD_TASK_LOG_DATEFMT",
    "worker_timer": "CELERYD_TIMER",
    "worker_timer_precision": "CELERYD_TIMER_PRECISION",
    "worker_detect_quorum_queues": "CELERYD_DETECT_QUORUM_QUEUES",
}
"""Old names of settings that are accepted without effect."""


def _ignored(reason: str, names: str) -> tuple[Setting, ...]:
    return tuple(
        Setting(name, "any", None, "Accepted.", (_OLD[name],) if name in _OLD else (), reason)
        for name in names.split()
    )


ACCEPTED: tuple[Setting, ...] = (
    *_ignored(
        _HUB,
        "redis_max_connections redis_retry_on_timeout broker_channel_error_retry "
        "broker_connection_max_retries broker_connection_retry broker_failover_strategy "
        "broker_heartbeat_checkrate broker_host broker_login_method broker_password "
        "broker_pool_acquire_timeout broker_pool_limit broker_port broker_read_url "
        "broker_transport broker_user broker_vhost broker_write_url worker_agent "
        "worker_autoscaler worker_consumer worker_pool_putlocks worker_pool_restarts "
        "worker_pool_start_method worker_timer worker_timer_precision worker_lost_wait "
        "worker_state_db worker_detect_quorum_queues worker_enable_prefetch_count_reduction "
        "worker_eta_task_limit worker_disable_prefetch worker_disable_rate_limits "
        "worker_direct task_protocol task_default_delivery_mode "
        "task_create_missing_queue_type task_create_missing_queue_exchange_type "
        "task_repr_maxlevels result_cache_max result_chord_join_timeout "
        "result_chord_retry_interval result_chord_expires result_compression result_exchange "
        "result_exchange_type result_persistent result_failure_expires "
        "result_backend_always_retry result_backend_base_sleep_between_retries_ms "
        "result_backend_max_retries result_backend_max_sleep_between_retries_ms cache_backend "
        "cache_backend_options",
    ),
    *_ignored(
        _SELF,
        "worker_cancel_long_running_tasks_on_connection_loss "
        "worker_deduplicate_successful_tasks worker_hijack_root_logger "
        "worker_redirect_stdouts worker_redirect_stdouts_level worker_soft_shutdown_timeout "
        "worker_enable_soft_shutdown_on_idle worker_log_datefmt worker_task_log_datefmt "
        "task_remote_tracebacks task_retry_on_worker_lost beat_sync_every",
    ),
    *_ignored(
        _BUS,
        "control_exchange control_queue_durable control_queue_exclusive control_queue_expires "
        "control_queue_ttl event_exchange event_queue_durable event_queue_exclusive "
        "event_queue_expires event_queue_prefix event_queue_ttl event_serializer "
        "beat_enable_remote_control beat_remote_control_max_tick_age",
    ),
    *_ignored(
        _SIGNED,
        "security_cert_store security_certificate security_digest security_key "
        "security_key_password",
    ),
    *_ignored(
        _DB,
        "database_create_tables_at_setup database_engine_callback database_engine_options "
        "database_short_lived_sessions database_table_names database_table_schemas "
        "database_url",
    ),
)

FOREIGN = (
    "s3_ mongodb_ cassandra_ azureblockblob_ cosmosdbsql_ couchbase_ couchdb_ elasticsearch_ "
    "arangodb_ gcs_ dynamodb_ riak_"
).split()
"""Prefixes of settings of stores that celeriac has not got: accepted, without effect."""
