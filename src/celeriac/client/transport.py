"""What the settings say to a driver: its URL and its options.

Celery spreads them over `broker_...`, `result_backend_...` and `redis_...`; a driver gets one
mapping with Celery's names for the options of a transport.

Owns: driver_options, with_redis_parts.  May import: kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from celeriac.kernel.config import Config
from celeriac.kernel.entities import Exchange, Queue
from celeriac.kernel.routing import declared_queues

_REDIS = {
    "redis_socket_timeout": "socket_timeout",
    "redis_socket_connect_timeout": "socket_connect_timeout",
    "redis_socket_keepalive": "socket_keepalive",
}


def driver_options(conf: Config, url: str, *, broker: bool, results: bool) -> dict[str, Any]:
    """Return the options for the driver of `url`.

    Where broker and store are one place, what is said of the broker wins.

    :param broker: whether it is the broker's URL.
    :param results: whether it is the result store's.
    """
    found: dict[str, Any] = {}
    if results:
        if url.startswith(("redis", "valkey", "sentinel")):
            for name, option in _REDIS.items():
                if conf.origin(name) != "default":
                    found[option] = conf[name]
            found.update(_tls(conf.redis_backend_use_ssl))
        found.update(conf.result_backend_transport_options or {})
    if broker:
        if url.startswith(("amqp", "pyamqp")):
            found.update(_amqp(conf, results))
        if url.startswith(("amqp", "pyamqp", "redis", "valkey", "sentinel")):
            found["publish_timeout"] = conf.broker_publish_timeout
        if conf.origin("broker_connection_timeout") != "default":
            found["socket_connect_timeout"] = conf.broker_connection_timeout
        if conf.worker_celery_bus is not None:
            found["celery_bus"] = conf.worker_celery_bus
        found.update(_tls(conf.broker_use_ssl))
        found.update(conf.broker_transport_options or {})
    return found


def _amqp(conf: Config, results: bool) -> Mapping[str, Any]:
    """Return what RabbitMQ must be told of the queues before they are used."""
    queues = declared_queues(conf.task_queues, conf.task_default_queue)
    default = queues.get(conf.task_default_queue)
    if default is not None and not conf.task_queues:
        exchange = conf.task_default_exchange or default.name
        kind = conf.task_default_exchange_type or "direct"
        key = conf.task_default_routing_key or default.name
        queues[default.name] = Queue(default.name, Exchange(exchange, kind), key)
    return {
        "queues": queues,
        "max_priority": conf.task_queue_max_priority,
        "queue_type": conf.task_default_queue_type,
        "ladder_type": conf.broker_native_delayed_delivery_queue_type,
        "heartbeat": conf.broker_heartbeat,
        "rpc": results,
    }


def _tls(value: Any) -> Mapping[str, Any]:
    """Return the options of `broker_use_ssl`: True, or a mapping that says more."""
    if not value:
        return {}
    return {"ssl": True, **value} if isinstance(value, Mapping) else {"ssl": True}


def with_redis_parts(conf: Config, url: str) -> str:
    """Return a store's URL with what `redis_host` and its like say, where it names no host."""
    scheme, _, rest = url.partition("://")
    if scheme not in ("redis", "rediss") or rest.strip("/"):
        return url
    host, port, db = conf.redis_host, conf.redis_port, conf.redis_db
    user, password = conf.redis_username, conf.redis_password
    login = ""
    if user or password:
        login = f"{quote(user or '', safe='')}:{quote(password or '', safe='')}@"
    return f"{scheme}://{login}{host or '127.0.0.1'}:{port or 6379}/{db or 0}"
