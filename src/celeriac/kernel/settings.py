"""The table of settings: name, type, default, and one sentence each; everything else is made from it.

Owns: SETTINGS, BY_NAME, OLD_NAMES.  May import: kernel.
"""

from __future__ import annotations

from datetime import timedelta

from celeriac.kernel.accepted import ACCEPTED
from celeriac.kernel.setting import Setting

SETTINGS: tuple[Setting, ...] = (
    # general
    Setting(
        "accept_content",
        "list",
        ("json",),
        "Codecs that a worker takes messages of.",
        ("CELERY_ACCEPT_CONTENT",),
    ),
    Setting(
        "enable_utc",
        "bool",
        True,
        "Where `timezone` is not set: whether that is UTC; if not, it is the machine's own.",
    ),
    Setting("imports", "list", (), "Modules to import in a worker.", ("CELERY_IMPORTS",)),
    Setting("include", "list", (), "More modules to import in a worker.", ("CELERY_INCLUDE",)),
    Setting(
        "timezone",
        "any?",
        None,
        "Time zone of naive datetimes, by name (`local`: the machine's); by `enable_utc` where it is not set.",
        ("CELERY_TIMEZONE",),
    ),
    # events
    Setting(
        "worker_send_task_events",
        "bool",
        False,
        "Send events of tasks (`-E`); a worker's own are sent anyhow.",
        ("CELERY_SEND_EVENTS", "CELERYD_SEND_EVENTS"),
    ),
    Setting(
        "worker_celery_bus",
        "bool?",
        None,
        "Speak Celery's own form of events too, for its monitors; on where it is not set, on Redis.",
    ),
    Setting(
        "task_send_sent_event",
        "bool",
        False,
        "Send an event for each task that is sent.",
        ("CELERY_SEND_TASK_SENT_EVENT",),
    ),
    # broker
    Setting(
        "broker_url",
        "urls?",
        None,
        "Where messages are kept, or a list of servers to try in turn; a SQLite file beside the app where it is not set.",
        ("BROKER_URL",),
    ),
    Setting(
        "broker_transport_options",
        "dict",
        {},
        "Options of the broker's driver.",
        ("BROKER_TRANSPORT_OPTIONS",),
    ),
    Setting(
        "broker_publish_timeout",
        "float",
        10.0,
        "Seconds that sending one message may take in all, retries included.",
    ),
    # results
    Setting(
        "result_backend",
        "str?",
        None,
        "Where results are kept; the broker's own file on SQLite where it is not set.",
        ("CELERY_RESULT_BACKEND",),
    ),
    Setting(
        "result_expires",
        "seconds?",
        timedelta(days=1),
        "Seconds, or a timedelta, that a result is kept; None or 0 keeps it for ever.",
        ("CELERY_TASK_RESULT_EXPIRES",),
    ),
    Setting("result_serializer", "str", "json", "Codec of results.", ("CELERY_RESULT_SERIALIZER",)),
    Setting(
        "result_accept_content",
        "list?",
        None,
        "Codecs that results are read with; accept_content where it is not set.",
    ),
    Setting(
        "result_extended",
        "bool",
        False,
        "Keep the task's name, arguments, worker, queue and retries with its result.",
    ),
    Setting(
        "result_backend_transport_options", "dict", {}, "Options of the result store's driver."
    ),
    # tasks
    Setting(
        "task_acks_late",
        "bool",
        True,
        "Settle a task after it ran; False allows no second delivery of one whose worker died.",
        ("CELERY_ACKS_LATE",),
    ),
    Setting(
        "task_acks_on_failure",
        "bool?",
        None,
        "A failed task is done; False buries it.",
        ("CELERY_ACKS_ON_FAILURE",),
    ),
    Setting(
        "task_acks_on_failure_or_timeout",
        "bool",
        True,
        "What task_acks_on_failure and task_acks_on_timeout are where they are not set.",
        ("CELERY_ACKS_ON_FAILURE_OR_TIMEOUT",),
    ),
    Setting(
        "task_acks_on_timeout",
        "bool?",
        None,
        "A task over its hard limit is done; False delivers it again.",
        ("CELERY_ACKS_ON_TIMEOUT",),
    ),
    Setting(
        "task_allow_error_cb_on_chord_header",
        "bool",
        False,
        "An errback linked to a chord is also called for each task of its header that fails.",
        ("CELERY_ALLOW_ERROR_CB_ON_CHORD_HEADER",),
    ),
    Setting(
        "task_always_eager",
        "bool",
        False,
        "Run tasks in place instead of sending them.",
        ("CELERY_ALWAYS_EAGER", "CELERY_TASK_ALWAYS_EAGER"),
    ),
    Setting(
        "task_annotations",
        "any?",
        None,
        "Attributes of tasks by name, or '*' for all.",
        ("CELERY_ANNOTATIONS",),
    ),
    Setting(
        "task_compression",
        "str?",
        None,
        "Compression of messages: gzip, bzip2, lzma, zstd, brotli.",
        ("CELERY_MESSAGE_COMPRESSION",),
    ),
    Setting(
        "task_create_missing_queues",
        "bool",
        True,
        "Use queues that task_queues does not name.",
        ("CELERY_CREATE_MISSING_QUEUES",),
    ),
    Setting(
        "task_default_priority",
        "int?",
        None,
        "Priority of tasks that have none: 0 .. 9, 9 first.",
        ("CELERY_DEFAULT_PRIORITY",),
    ),
    Setting(
        "task_default_queue",
        "str",
        "celery",
        "Queue of tasks that have none.",
        ("CELERY_DEFAULT_QUEUE",),
    ),
    Setting(
        "task_default_exchange",
        "str?",
        None,
        "Exchange shown for the default queue.",
        ("CELERY_DEFAULT_EXCHANGE",),
    ),
    Setting(
        "task_default_routing_key",
        "str?",
        None,
        "Routing key of the default queue.",
        ("CELERY_DEFAULT_ROUTING_KEY",),
    ),
    Setting(
        "task_default_rate_limit",
        "any?",
        None,
        "Rate limit of tasks that have none: '10/s', '100/m', '1000/h'.",
        ("CELERY_DEFAULT_RATE_LIMIT",),
    ),
    Setting(
        "task_eager_propagates",
        "bool",
        False,
        "Raise what an eager task raises.",
        ("CELERY_EAGER_PROPAGATES", "CELERY_EAGER_PROPAGATES_EXCEPTIONS"),
    ),
    Setting("task_ignore_result", "bool", False, "Keep no results.", ("CELERY_IGNORE_RESULT",)),
    Setting(
        "task_inherit_parent_priority",
        "bool",
        False,
        "Tasks sent by a task have its priority.",
        ("CELERY_INHERIT_PARENT_PRIORITY",),
    ),
    Setting(
        "task_max_body_size", "int", 256 * 1024 * 1024, "Bytes that an encoded message may have."
    ),
    Setting(
        "task_max_decompressed_size",
        "int",
        256 * 1024 * 1024,
        "Bytes that a compressed body may unpack to.",
    ),
    Setting(
        "task_max_deliveries",
        "int",
        5,
        "Deliveries without an outcome after which a message is buried.",
    ),
    Setting(
        "task_publish_retry",
        "bool",
        True,
        "Send again while the broker is away.",
        ("CELERY_TASK_PUBLISH_RETRY",),
    ),
    Setting(
        "task_publish_retry_policy",
        "dict",
        {"max_retries": 3, "interval_start": 0, "interval_max": 1, "interval_step": 0.2},
        "How often and when: max_retries, interval_start, interval_step, interval_max (seconds).",
        ("CELERY_TASK_PUBLISH_RETRY_POLICY",),
    ),
    Setting(
        "task_queues", "any?", None, "Queues: names, mappings or Queue objects.", ("CELERY_QUEUES",)
    ),
    Setting(
        "task_reject_on_worker_lost",
        "bool?",
        None,
        "Deliver a task again whose process died; True where it is not set.",
        ("CELERY_REJECT_ON_WORKER_LOST",),
    ),
    Setting(
        "task_routes",
        "any?",
        None,
        "Which task goes where: dict, list, function or path.",
        ("CELERY_ROUTES",),
    ),
    Setting("task_serializer", "str", "json", "Codec of messages.", ("CELERY_TASK_SERIALIZER",)),
    Setting(
        "task_soft_time_limit",
        "float?",
        None,
        "Seconds after which SoftTimeLimitExceeded is raised in a task.",
        ("CELERYD_TASK_SOFT_TIME_LIMIT",),
    ),
    Setting(
        "task_store_eager_result",
        "bool",
        False,
        "Store the results of eager tasks.",
        ("CELERY_STORE_EAGER_RESULT",),
    ),
    Setting(
        "task_store_errors_even_if_ignored",
        "bool",
        False,
        "Store failures of tasks whose results are not kept.",
        ("CELERY_STORE_ERRORS_EVEN_IF_IGNORED",),
    ),
    Setting(
        "task_time_limit",
        "float?",
        None,
        "Seconds after which a task is ended.",
        ("CELERYD_TASK_TIME_LIMIT",),
    ),
    Setting(
        "task_track_started", "bool", False, "Store the state STARTED.", ("CELERY_TRACK_STARTED",)
    ),
    Setting(
        "task_unknown_delay",
        "float",
        1.0,
        "Seconds after which a message for an unknown task is offered again; doubles each time.",
    ),
    Setting(
        "task_unknown_patience",
        "float",
        3600.0,
        "Seconds after which a message for an unknown task is buried.",
    ),
    # worker
    Setting(
        "worker_concurrency",
        "int?",
        None,
        "Tasks at the same time; the number of cores where it is not set.",
        ("CELERYD_CONCURRENCY",),
    ),
    Setting(
        "worker_enable_remote_control",
        "bool",
        True,
        "Listen to remote control.",
        ("CELERY_ENABLE_REMOTE_CONTROL",),
    ),
    Setting("worker_lease", "float", 30.0, "Seconds that a claimed task stays a silent worker's."),
    Setting(
        "worker_log_format",
        "str",
        "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s",
        "Format of log lines.",
        ("CELERYD_LOG_FORMAT",),
    ),
    Setting(
        "worker_task_log_format",
        "str",
        "[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s",
        "Format of log lines of tasks.",
        ("CELERYD_TASK_LOG_FORMAT",),
    ),
    Setting(
        "worker_log_color",
        "bool?",
        None,
        "Colour log lines; where it is not set, on a terminal.",
        ("CELERYD_LOG_COLOR",),
    ),
    Setting("worker_log_tasks", "bool", True, "Log a line for each task received and ended."),
    Setting(
        "worker_max_memory_per_child",
        "int?",
        None,
        "KiB after which a child process is replaced.",
        ("CELERYD_MAX_MEMORY_PER_CHILD",),
    ),
    Setting(
        "worker_max_tasks_per_child",
        "int?",
        None,
        "Tasks after which a child process is replaced.",
        ("CELERYD_MAX_TASKS_PER_CHILD",),
    ),
    Setting(
        "worker_pool",
        "str",
        "prefork",
        "Where tasks run: prefork, threads, asyncio, solo.",
        ("CELERYD_POOL",),
    ),
    Setting(
        "worker_proc_alive_timeout",
        "float",
        60.0,
        "Seconds in which a child process begins, worker_process_init included, or is replaced; 0: any.",
        ("CELERYD_PROC_ALIVE_TIMEOUT",),
    ),
    Setting(
        "worker_prefetch_multiplier",
        "int",
        0,
        "Tasks to hold for each slot at most; 0 holds what starts within 50 ms.",
        ("CELERYD_PREFETCH_MULTIPLIER",),
    ),
    Setting(
        "worker_shutdown_timeout", "float", 25.0, "Seconds that tasks have to finish after SIGTERM."
    ),
    # redis
    Setting(
        "broker_use_ssl",
        "any?",
        None,
        "TLS to the broker: True, or a dictionary of ssl_cert_reqs, ssl_ca_certs, ssl_certfile, ssl_keyfile.",
        ("BROKER_USE_SSL",),
    ),
    Setting(
        "broker_connection_timeout",
        "float",
        4.0,
        "Seconds that connecting to the broker may take.",
        ("BROKER_CONNECTION_TIMEOUT",),
    ),
    Setting(
        "broker_connection_retry_on_startup",
        "bool",
        True,
        "Whether a worker that starts while its broker or store is away waits for it, or ends.",
    ),
    Setting(
        "redis_backend_use_ssl",
        "any?",
        None,
        "TLS to results on Redis, as broker_use_ssl.",
        ("CELERY_REDIS_BACKEND_USE_SSL",),
    ),
    Setting("redis_host", "str?", None, "Redis for results, where result_backend is redis://."),
    Setting("redis_port", "int?", None, "Its port; 6379."),
    Setting("redis_db", "int?", None, "Its database; 0."),
    Setting("redis_username", "str?", None, "Who logs in there."),
    Setting("redis_password", "str?", None, "And with what."),
    Setting("redis_socket_timeout", "float", 5.0, "Seconds that one command to it may take."),
    Setting("redis_socket_connect_timeout", "float", 4.0, "Seconds that connecting may take."),
    Setting("redis_socket_keepalive", "bool", True, "TCP keepalive on connections to it."),
    # beat
    Setting(
        "beat_schedule",
        "dict",
        {},
        "Periodic tasks by name: task, schedule, args, kwargs, options, misfire, timezone.",
        ("CELERYBEAT_SCHEDULE",),
    ),
    Setting(
        "beat_scheduler",
        "str",
        "celery.beat:PersistentScheduler",
        "The class that sends them, where it is not celeriac's own.",
        ("CELERYBEAT_SCHEDULER",),
    ),
    Setting(
        "beat_schedule_filename",
        "str",
        "celerybeat-schedule",
        "SQLite file of the entries, where the broker has no place for them.",
        ("CELERYBEAT_SCHEDULE_FILENAME",),
    ),
    Setting(
        "beat_max_loop_interval",
        "float",
        0.0,
        "Seconds of beat's longest sleep; 0 means 5.",
        ("CELERYBEAT_MAX_LOOP_INTERVAL",),
    ),
    Setting(
        "beat_cron_starting_deadline",
        "float?",
        None,
        "Seconds after which a missed crontab tick is skipped.",
        ("CELERYBEAT_CRON_STARTING_DEADLINE",),
    ),
    # rabbitmq
    Setting(
        "task_queue_max_priority",
        "int?",
        None,
        "Priorities that queues on RabbitMQ are made with, at the most 10; None makes them without.",
        ("CELERY_QUEUE_MAX_PRIORITY",),
    ),
    Setting(
        "task_default_queue_type",
        "str",
        "classic",
        "Type of queues on RabbitMQ that say none: classic or quorum.",
        ("CELERY_DEFAULT_QUEUE_TYPE",),
    ),
    Setting(
        "task_default_exchange_type",
        "str",
        "direct",
        "Type of the default queue's exchange.",
        ("CELERY_DEFAULT_EXCHANGE_TYPE",),
    ),
    Setting(
        "broker_heartbeat",
        "float?",
        None,
        "Seconds of silence after which RabbitMQ counts as away; 30, and never 0.",
        ("BROKER_HEARTBEAT",),
    ),
    Setting(
        "broker_native_delayed_delivery_queue_type",
        "str",
        "quorum",
        "Type of the queues in which delays pass on RabbitMQ: quorum or classic.",
    ),
    *ACCEPTED,
)

BY_NAME: dict[str, Setting] = {setting.name: setting for setting in SETTINGS}
OLD_NAMES: dict[str, str] = {}
"""Upper-case names to the names in the table."""
for _setting in SETTINGS:
    OLD_NAMES[f"CELERY_{_setting.name.upper()}"] = _setting.name
    for _old in _setting.old:
        OLD_NAMES.setdefault(_old, _setting.name)
