"""Task states as the store keeps them: Celery's result meta, encoded and read back.

Owns: make_record, read_meta, result_reader.  May import: kernel, ports, client.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celeriac.client.context import Context
from celeriac.kernel.errors import BackendGetMetaError, DecodeError, EncodeError
from celeriac.kernel.failure import describe, rebuild
from celeriac.kernel.message import Record
from celeriac.kernel.states import EXCEPTION_STATES
from celeriac.ports.codec import Codec
from celeriac.ports.registry import accept, find_codec

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac


def make_record(
    app: Celeriac,
    request: Context,
    state: str,
    result: Any = None,
    traceback: str | None = None,
    *,
    task: str | None = None,
    runtime: float | None = None,
) -> Record:
    """Return the record of a task's state.

    :param result: the returned value, the exception of an exception state, or a state's meta.
    :raises EncodeError: the result serializer cannot carry `result`.
    """
    conf = app.conf
    now = app.clock.time()
    if state in EXCEPTION_STATES and isinstance(result, BaseException):
        result = describe(result)
    meta: dict[str, Any] = {
        "status": state,
        "result": result,
        "traceback": traceback,
        "children": request.children or [],
        "date_done": dt.datetime.fromtimestamp(now, dt.UTC).isoformat(),
        "task_id": request.id,
    }
    head = request.head
    if head.parent_id:
        meta["parent_id"] = head.parent_id
    if head.group:
        meta["group_id"] = head.group
    if conf.result_extended:
        meta.update(_extended(request))
    body = find_codec(conf.result_serializer).dumps(meta)
    kept = app.result_expires
    return Record(
        request.id,
        state,
        body,
        # What replaced a task counts its attempts anew, and still comes later.
        (head.replaced_task_nesting * 1_000_000 + request.envelope.attempt, request.handed_out),
        now + kept if kept else 0.0,
    )


def _extended(request: Context) -> dict[str, Any]:
    extended = {
        "name": request.head.task,
        "args": request.args,
        "kwargs": request.kwargs,
        "worker": request.hostname,
        "retries": request.retries,
        "queue": request.envelope.queue,
    }
    codec = find_codec("json")
    for name in ("args", "kwargs"):
        try:
            codec.dumps(extended[name])
        except EncodeError:
            extended[name] = repr(extended[name])[:1024]
    return extended


def result_codec(app: Celeriac) -> Codec:
    """Return the codec that results are read with.

    :raises ContentDisallowed: `result_accept_content`, or `accept_content`, does not name it.
    """
    conf = app.conf
    allowed = conf.result_accept_content
    return _accepted(
        conf.result_serializer, tuple(conf.accept_content if allowed is None else allowed)
    )


@functools.lru_cache(64)
def _accepted(name: str, allowed: tuple[str, ...]) -> Codec:
    codec = find_codec(name)
    accept(allowed).check(codec.content_type)
    return codec


def read_meta(app: Celeriac, record: Record) -> dict[str, Any]:
    """Return the meta of a record, with an exception rebuilt where its state says one.

    :raises BackendGetMetaError: the record cannot be read with `result_serializer`.
    :raises ContentDisallowed: results must not be read with it.
    """
    if record.body is None:
        return {"status": record.state, "result": None, "traceback": None, "children": []}
    try:
        meta = result_codec(app).loads(record.body)
        state = meta["status"]
    except (DecodeError, KeyError, TypeError) as error:
        raise BackendGetMetaError(
            f"the result of {record.id} cannot be read as {app.conf.result_serializer}: {error}"
        ) from error
    result = meta.get("result")
    if state in EXCEPTION_STATES and isinstance(result, dict) and "exc_type" in result:
        meta["result"] = rebuild(result)
    return dict(meta)


def result_reader(app: Celeriac) -> Callable[[Record], Any]:
    """Return what reads the value of a record whose task returned, for very many of them.

    That raises BackendGetMetaError as `read_meta` does.
    """
    loads = result_codec(app).loads

    def read(record: Record) -> Any:
        body = record.body
        if body is not None:
            try:
                return loads(body)["result"]
            except (DecodeError, KeyError, TypeError):
                pass  # read_meta says what is wrong
        return read_meta(app, record)["result"]

    return read
