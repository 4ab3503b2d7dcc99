"""Runs one delivery: resolve, check, bind, run, conclude.

One `Execution` lives in every process that runs tasks; what it returns is a whole settlement,
encoded where the task ran, so that the worker's parent process never decodes.

Owns: Execution.  Thread rule: may run in any number of threads at once.
May import: kernel, ports, client, worker.
"""

from __future__ import annotations

import copy
import inspect
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from celeriac.client.announce import after_publish
from celeriac.client.app import Celeriac
from celeriac.client.attempt import Attempt, signal_failure
from celeriac.client.compose import Carry, compose
from celeriac.client.context import Context
from celeriac.client.current import push_app
from celeriac.client.endings import doom
from celeriac.client.loop import LoopThread
from celeriac.client.records import make_record
from celeriac.client.signals import (
    after_task_publish,
    task_failure,
    worker_process_init,
    worker_process_shutdown,
)
from celeriac.kernel.errors import (
    BrokerUnavailable,
    CeleryError,
    ContentDisallowed,
    ImproperlyConfigured,
    InvalidTaskError,
    NotRegistered,
    Reject,
    Replaced,
    Retry,
    TaskRevokedError,
    WireError,
    WorkerLostError,
)
from celeriac.kernel.lifecycle import Decision, Policy, decide
from celeriac.kernel.message import Delivery, Envelope, Part, Record, Settlement, Verdict
from celeriac.kernel.redact import bounded_repr
from celeriac.kernel.states import FAILURE, IGNORED, RETRY, REVOKED, STARTED, SUCCESS
from celeriac.kernel.wire import Headers, pack, parse_time, task_name, unpack
from celeriac.ports.codec import Codec
from celeriac.ports.pool import PoolTraits, TaskFrame
from celeriac.ports.registry import accept, find_codec, find_compression
from celeriac.worker.follow import Following, gathered
from celeriac.worker.prepared import Prepared
from celeriac.worker.telling import OFF, Switch, Teller

logger = logging.getLogger("celeriac.task")

STORE_AWAY = 2.0
"""Seconds after which a delivery is tried again that needs the result store while it is away."""
LONGEST_PARK = 10.0
"""Seconds between two offers of a message that no worker could run so far."""


class _Job:
    """A delivery that has passed every check."""

    __slots__ = ("args", "attempt", "delivery", "head", "payload", "prepared", "request")

    def __init__(
        self,
        delivery: Delivery,
        head: Headers,
        payload: bytes,
        prepared: Prepared,
        request: Context,
        attempt: Attempt,
        args: Any,
    ) -> None:
        self.args = args
        """As the message has them: without the results that a chord's body is given."""
        self.delivery, self.head, self.payload = delivery, head, payload
        self.prepared, self.request, self.attempt = prepared, request, attempt


class Execution:
    """Runs deliveries of one worker.

    :param frame: what the pool lends: limits, and a way for states of running tasks.
    :param traits: what the pool can do; a call that needs more is handed back.
    :param limits: the worker's own (hard, soft) time limits, seconds.
    :param switch: whether events of tasks are wanted.
    """

    def __init__(
        self,
        app: Celeriac,
        frame: TaskFrame,
        *,
        hostname: str,
        traits: PoolTraits,
        limits: tuple[float | None, float | None] = (None, None),
        switch: Switch = OFF,
    ) -> None:
        conf = app.conf
        self._app = app
        self._follow = Following(app)
        self._frame = frame
        self._hostname = hostname
        self._traits = traits
        self._limits = limits
        self._tasks = app.tasks
        self._prepared: dict[str, Prepared] = {}
        self._acceptance = accept(conf.accept_content)
        self._codecs: dict[str, Codec] = {}
        self._loop = LoopThread()
        self._teller = Teller(app, hostname, switch=switch, tell=frame.told)
        self._switch = switch
        self._keeps = app.keeps_results
        self._log = conf.worker_log_tasks
        self._tells_sent = conf.task_send_sent_event
        self._max_size = conf.task_max_decompressed_size
        self._asynchronous = {
            name for name, task in self._tasks.items() if inspect.iscoroutinefunction(task.run)
        }
        push_app(app)

    # -- running --------------------------------------------------------------------------------

    def __call__(self, delivery: Delivery) -> Settlement:
        """Run a delivery and return how it ends."""
        job = self._prepare(delivery)
        if isinstance(job, Settlement):
            return job
        job.attempt.run()
        return self._concluded(job)

    def close(self) -> None:
        """End the loop of its `async def` tasks."""
        self._loop.close()

    def process_begins(self) -> None:
        """Tell the program that this process is one in which tasks run."""
        self._app.teller = self._frame.told
        worker_process_init.send(sender=self._hostname)

    def process_ends(self, status: int) -> None:
        """Tell the program that this process, in which tasks ran, ends."""
        worker_process_shutdown.send(sender=None, pid=os.getpid(), exitcode=status)

    def is_async(self, delivery: Delivery) -> bool:
        """Return whether the delivery's task is `async def`."""
        try:
            return task_name(delivery.envelope.body) in self._asynchronous
        except WireError:
            return False

    async def run_async(self, delivery: Delivery) -> Settlement:
        """Run a delivery of an `async def` task on the pool's own loop."""
        job = self._prepare(delivery)
        if isinstance(job, Settlement):
            return job
        await job.attempt.run_async()
        return self._concluded(job)

    def _prepare(self, delivery: Delivery) -> _Job | Settlement:
        envelope = delivery.envelope
        head: Headers | None = None
        try:
            head, payload = unpack(envelope.body)
            results: list[Any] = []
            if head.doom is not None:
                return self._end_rest(delivery, head, payload)
            if head.gather is not None:
                results, failed = gathered(self._app, head)
                if failed is not None:
                    return self._fail_gathered(delivery, head, payload, failed)
            prepared = self._prepared.get(head.task) or self._find(head.task)
            if prepared is None:
                return self.park(delivery, head, payload, NotRegistered(head.task))
            if (early := self._not_now(delivery, head, prepared)) is not None:
                return early
            given, kwargs, embed = self._decode(head, payload)
            args = given if head.gather is None or not head.fed else [results, *given]
            if prepared.check is not None:
                _check_arguments(prepared.check, head.task, args, kwargs)
        except BrokerUnavailable as error:
            return self._later(delivery, error)
        except (CeleryError, RecursionError) as error:
            return self._bury(delivery, head, error)
        request = Context(head, envelope, args, kwargs, embed)
        request.hostname = self._hostname
        request.handed_out = delivery.handed_out
        request.note = self._frame.noted
        if prepared.track and self._keeps and not _ignored(prepared, head):
            meta = {"pid": os.getpid(), "hostname": self._hostname}
            self._frame.noted([make_record(self._app, request, STARTED, meta)])
        if self._switch[0] and prepared.tells:
            self._teller.begins(request)
        if prepared.limited or head.timelimit != (None, None):
            hard, soft = head.timelimit
            self._frame.limits(soft or prepared.soft, hard or prepared.hard)
        return _Job(
            delivery,
            head,
            payload,
            prepared,
            request,
            Attempt(
                prepared.task,
                request,
                partial(self._loop.run, name=envelope.id),
                self._keeper(prepared, request),
            ),
            given,
        )

    def _keeper(self, prepared: Prepared, request: Context) -> Callable[[Any], Record] | None:
        """Return what makes the record of a value, where something needs it."""
        head = request.head
        if (self._keeps and not _ignored(prepared, head)) or head.slot is not None:
            return partial(make_record, self._app, request, SUCCESS)
        return None

    def _later(self, delivery: Delivery, error: BaseException) -> Settlement:
        logger.warning("task %s waits for the result store: %s", delivery.envelope.id, error)
        due = self._app.clock.time() + STORE_AWAY
        return Settlement(delivery, Verdict.RETRY, replace(delivery.envelope, not_before=due))

    def _find(self, name: str) -> Prepared | None:
        task = self._tasks.get(name)
        if task is None:
            return None
        prepared = self._prepared[name] = Prepared(task, self._limits)
        return prepared

    def _not_now(self, delivery: Delivery, head: Headers, prepared: Prepared) -> Settlement | None:
        """Return how a delivery ends that must not be run, or not here, or not yet."""
        envelope = delivery.envelope
        expires_at = envelope.expires_at
        if head.expires is not None:
            expires_at = parse_time(head.expires, "expires")
        if expires_at and self._app.clock.time() >= expires_at:
            if self._log:
                logger.info("Discarding revoked task: %s[%s] (expired)", head.task, head.id)
            self._teller.revoked(delivery, expired=True)
            return self._end(delivery, head, REVOKED, TaskRevokedError("expired"))
        if head.eta is not None:
            due, head.eta = parse_time(head.eta, "eta"), None
            if due > self._app.clock.time():
                _, payload = unpack(envelope.body)
                again = replace(envelope, body=pack(head, payload), not_before=due)
                return Settlement(delivery, Verdict.RETRY, again)
        policy = prepared.policy
        if delivery.handed_out > policy.max_deliveries:
            times = delivery.handed_out - 1
            error = WorkerLostError(f"it was handed out {times} times without an outcome")
            return self._bury(delivery, head, error)
        if delivery.handed_out > 1 and not policy.acks_late:
            # At most once was asked for: whether it ran cannot be known, so it is not run again.
            lost = WorkerLostError("its worker died, and acks_late=False allows no second delivery")
            self._teller.failed(delivery, lost)
            return self._end(delivery, head, FAILURE, lost)
        hard, soft = head.timelimit
        if (hard and not self._traits.stops_hard) or (soft and not self._traits.stops_soft):
            _, payload = unpack(envelope.body)
            reason = ImproperlyConfigured(
                f"the {self._traits.name} pool cannot keep its time limits"
            )
            return self.park(delivery, head, payload, reason)
        return None

    def _decode(self, head: Headers, payload: bytes) -> tuple[Any, dict[str, Any], Any]:
        codec = self._codecs.get(head.content_type)
        if codec is None:
            self._acceptance.check(head.content_type)
            try:
                codec = self._codecs[head.content_type] = find_codec(head.content_type)
            except ImproperlyConfigured as error:
                raise ContentDisallowed(str(error)) from error
        if head.compression:
            payload = find_compression(head.compression).decompress(payload, limit=self._max_size)
        decoded = codec.loads(payload)
        try:
            args, kwargs, embed = decoded
        except (TypeError, ValueError):
            raise InvalidTaskError("the body is not [args, kwargs, embed]") from None
        if not isinstance(args, (list, tuple)) or not isinstance(kwargs, dict):
            raise InvalidTaskError("args must be a list and kwargs an object")
        return args, kwargs, embed if isinstance(embed, dict) else None

    # -- concluding -----------------------------------------------------------------------------

    def _concluded(self, job: _Job) -> Settlement:
        try:
            settlement = self._conclude(job)
        except Exception as error:
            self._teller.broke(job.delivery, error)
            raise
        if settlement.publish:
            if after_task_publish.receivers:
                after_publish(settlement.publish)
            if self._tells_sent:
                self._app.tell_sent(settlement.publish)
        if self._switch[0] and job.prepared.tells:
            attempt, limit = job.attempt, job.prepared.task.resultrepr_maxsize
            self._teller.ended(
                job.request, settlement, attempt.error, attempt.value, attempt.traceback, limit
            )
        return settlement

    def _conclude(self, job: _Job) -> Settlement:
        attempt, delivery = job.attempt, job.delivery
        if job.prepared.limited or job.head.timelimit != (None, None):
            self._frame.limits(None, None)
        error = attempt.error
        if error is None:
            return self._succeed(job)
        if isinstance(error, Replaced):
            return self._replace(job, error)
        now = self._app.clock.time()
        try:
            decision = decide(job.prepared.policy, error, handed_out=delivery.handed_out, now=now)
        except (TypeError, ValueError, OverflowError) as broken:  # retry(countdown="soon")
            return self._fail(job, broken)
        self._log_error(job, error)
        settlement = Settlement(
            delivery, decision.verdict, reason=decision.reason, runtime=attempt.runtime
        )
        if decision.verdict is Verdict.RETRY and isinstance(error, Retry):
            try:
                settlement.again = self._again(job, error, decision)
            except (CeleryError, TypeError, ValueError) as broken:
                return self._fail(job, broken)
        cause: BaseException = error
        if decision.state is not None:
            if isinstance(error, Retry):
                cause = error.exc or error
            elif isinstance(error, Reject):
                cause = Reject(str(error.reason), error.requeue)
            settlement.record = self._record(job, decision.state, cause)
        if decision.verdict in (Verdict.ACK, Verdict.BURY):
            self._end_branch(job, settlement, decision.state or IGNORED, cause)
        return settlement

    def _succeed(self, job: _Job) -> Settlement:
        attempt = job.attempt
        settlement = Settlement(job.delivery, Verdict.ACK, runtime=attempt.runtime)
        try:
            if self._keeps and not _ignored(job.prepared, job.head):
                record: Record | None = attempt.kept
                if record is None or job.prepared.task.hooks_end:  # which may have sent children
                    record = make_record(self._app, job.request, SUCCESS, attempt.value)
                settlement.record = record
            embed = job.request.embed
            if embed or job.head.slot is not None:
                self._go_on(job, settlement, attempt.value)
        except BrokerUnavailable as error:
            return self._later(job.delivery, error)
        except (CeleryError, RecursionError, TypeError, ValueError) as error:
            return self._fail(job, error)
        if self._log and logger.isEnabledFor(logging.INFO):
            logger.info(
                "Task %s[%s] succeeded in %ss: %s",
                job.head.task,
                job.head.id,
                round(attempt.runtime, 6),
                bounded_repr(attempt.value, job.prepared.task.resultrepr_maxsize),
            )
        return settlement

    def _fail(self, job: _Job, error: BaseException) -> Settlement:
        """Return the settlement of a task whose outcome cannot be carried on."""
        job.attempt.error = error  # what events tell, whatever the function did
        self._log_error(job, error)
        if task_failure.receivers:
            signal_failure(job.prepared.task, job.request, error, job.attempt.traceback)
        settlement = Settlement(job.delivery, Verdict.ACK, runtime=job.attempt.runtime)
        settlement.record = self._record(job, FAILURE, error)
        self._end_branch(job, settlement, FAILURE, error)
        return settlement

    def _go_on(self, job: _Job, settlement: Settlement, value: Any) -> None:
        """Add what follows a success."""
        request, head, follow = job.request, job.head, self._follow
        made = follow.callbacks(request, value)
        if request.embed.get("chain"):
            made += follow.next_step(request, value)
        else:
            made += follow.lane(head, request.embed)
            if head.slot is not None:
                record = settlement.record or make_record(self._app, request, SUCCESS, value)
                settlement.part = Part(head.slot[0], head.slot[1], record)
        settlement.publish = tuple(made)
        if settlement.record is not None and request.children:
            # What was sent here are children too.
            settlement.record = make_record(self._app, request, SUCCESS, value)

    def _end_branch(
        self, job: _Job, settlement: Settlement, state: str, error: BaseException
    ) -> None:
        """Add what follows a task that did not return: its branch of the workflow ends here."""
        request, head, follow = job.request, job.head, self._follow
        traceback = job.attempt.traceback
        made: list[Envelope] = []
        if state == FAILURE:
            made += follow.errbacks(request, error, traceback)
        if request.embed.get("chain") and state != IGNORED:
            envelope = job.delivery.envelope
            made.append(doom(envelope, head, job.payload, state, error, traceback, unread=False))
        if request.embed.get("lane"):
            made += follow.lane(head, request.embed)
        if head.slot is not None:
            result = error if state != IGNORED else None
            record = settlement.record or make_record(self._app, request, state, result, traceback)
            settlement.part = Part(head.slot[0], head.slot[1], record)
        settlement.publish = tuple(made)

    def _replace(self, job: _Job, error: Replaced) -> Settlement:
        """Return the settlement of a task that another one takes the place of."""
        try:
            made = self._follow.replacement(job.request, error.sig)
        except BrokerUnavailable as away:
            return self._later(job.delivery, away)
        except (CeleryError, RecursionError, TypeError, ValueError) as broken:
            return self._fail(job, broken)
        if self._log:
            logger.info("Task %s[%s] is replaced by %r", job.head.task, job.head.id, error.sig)
        runtime = job.attempt.runtime
        if len(made) == 1 and made[0].id == job.delivery.envelope.id:
            return Settlement(job.delivery, Verdict.RETRY, made[0], runtime=runtime)
        return Settlement(job.delivery, Verdict.ACK, publish=tuple(made), runtime=runtime)

    def _end_rest(self, delivery: Delivery, head: Headers, payload: bytes) -> Settlement:
        """End what a failed task's message carries."""
        try:
            _, _, embed = self._decode(head, payload)
            made = self._follow.end_rest(head, embed or {}, delivery.envelope)
        except BrokerUnavailable:
            raise
        except (CeleryError, RecursionError, KeyError, TypeError, ValueError) as error:
            logger.error("what follows %s[%s] is lost: %s", head.task, head.id, error)
            made = []
        return Settlement(delivery, Verdict.ACK, publish=tuple(made))

    def _fail_gathered(
        self, delivery: Delivery, head: Headers, payload: bytes, error: BaseException
    ) -> Settlement:
        """Return how a chord's body ends that is not run because its header failed."""
        logger.error("Chord %s: %s", head.gather, error)
        return self._end(delivery, head, FAILURE, error, payload)

    def _record(self, job: _Job, state: str, error: BaseException) -> Record | None:
        prepared = job.prepared
        ignored = _ignored(prepared, job.head)
        if not self._keeps or (ignored and not (prepared.keep_errors and state != RETRY)):
            return None
        return make_record(self._app, job.request, state, error, job.attempt.traceback)

    def _again(self, job: _Job, error: Retry, decision: Decision) -> Envelope:
        """Return the envelope of the next attempt: the same one, but for what retry() changed."""
        envelope = replace(
            job.delivery.envelope,
            attempt=job.request.retries + 1,
            not_before=decision.not_before,
        )
        changes = error.sig
        if not changes:
            return envelope
        request, options = job.request, dict(changes["options"])
        args = job.args if changes["args"] is None else changes["args"]
        kwargs = request.kwargs if changes["kwargs"] is None else changes["kwargs"]
        options.setdefault("queue", envelope.queue)
        options.setdefault("priority", envelope.priority)
        options.setdefault("headers", job.head.extra)
        for link, embedded in (
            ("link", "callbacks"),
            ("link_error", "errbacks"),
            ("chain", "chain"),
            ("chord", "chord"),
        ):
            options.setdefault(link, request.embed.get(embedded))
        options["task_id"] = request.id
        carry = Carry(more=request.embed.get("more"), lane=request.embed.get("lane"))
        task = job.prepared.task
        made, head = compose(self._app, job.head.task, args, kwargs, options, task, carry)
        _, payload = unpack(made.body)
        kept = copy.copy(job.head)
        kept.content_type, kept.content_encoding = head.content_type, head.content_encoding
        kept.compression, kept.extra = head.compression, head.extra
        kept.links = head.links
        if changes["args"] is not None:
            kept.gather = None  # the arguments are all there now
        if head.timelimit != (None, None):
            kept.timelimit = head.timelimit
        return replace(
            envelope,
            body=pack(kept, payload),
            queue=made.queue,
            priority=made.priority,
            expires_at=made.expires_at or envelope.expires_at,
        )

    # -- what is not run ------------------------------------------------------------------------

    def _end(
        self,
        delivery: Delivery,
        head: Headers,
        state: str,
        error: BaseException,
        payload: bytes | None = None,
    ) -> Settlement:
        settlement = Settlement(delivery, Verdict.ACK)
        return self._end_unread(settlement, head, state, error, payload)

    def _end_unread(
        self,
        settlement: Settlement,
        head: Headers | None,
        state: str,
        error: BaseException,
        payload: bytes | None = None,
    ) -> Settlement:
        """Add record, slot and follow-ups of a task whose payload was not looked into."""
        delivery = settlement.delivery
        record = self._record_of(delivery, head, state, error)
        settlement.record = record
        if head is not None and record is not None and head.slot is not None:
            settlement.part = Part(head.slot[0], head.slot[1], record)
        if head is not None and head.links and head.doom is None:
            if payload is None:
                _, payload = unpack(delivery.envelope.body)
            ended = doom(delivery.envelope, head, payload, state, error, unread=True)
            settlement.publish = (ended,)
        return settlement

    def end_revoked(self, delivery: Delivery, error: Exception, state: str) -> Settlement:
        """Return how a delivery ends that was revoked before it began."""
        try:
            head, _ = unpack(delivery.envelope.body)
        except WireError as broken:
            return self._bury(delivery, None, broken)
        if self._log:
            logger.info("Discarding revoked task: %s[%s]", head.task, head.id)
        self._teller.revoked(delivery)
        return self._end(delivery, head, state, error)

    def _bury(self, delivery: Delivery, head: Headers | None, error: BaseException) -> Settlement:
        name = head.task if head is not None else "?"
        reason = f"{type(error).__name__}: {error!s:.500}"
        logger.error("Task %s[%s] is buried: %s", name, delivery.envelope.id, reason)
        if isinstance(error, WorkerLostError):
            self._teller.failed(delivery, error)
        else:
            self._teller.unrunnable(delivery, name, error, final=True)
        settlement = Settlement(delivery, Verdict.BURY, reason=reason)
        return self._end_unread(settlement, head, FAILURE, error)

    def _record_of(
        self, delivery: Delivery, head: Headers | None, state: str, error: BaseException
    ) -> Record | None:
        if not self._keeps:
            return None
        request = Context(head or Headers("?", delivery.envelope.id), delivery.envelope)
        request.id = delivery.envelope.id
        request.handed_out = delivery.handed_out
        request.hostname = self._hostname
        return make_record(self._app, request, state, error)

    def park(
        self, delivery: Delivery, head: Headers, payload: bytes, error: Exception
    ) -> Settlement:
        """Hand a delivery back that another worker may be able to run, later and later.

        Buried when none has taken it for `task_unknown_patience` seconds.
        """
        conf, now = self._app.conf, self._app.clock.time()
        first = head.parked_at or now
        if now - first >= conf.task_unknown_patience:
            return self._bury(delivery, head, error)
        if isinstance(error, NotRegistered):
            self._teller.unrunnable(delivery, head.task, error, final=False)
        delay = min(LONGEST_PARK, conf.task_unknown_delay * 2.0**head.parked)
        delay = max(0.01, min(delay, first + conf.task_unknown_patience - now))
        logger.warning(
            "Task %s[%s] is handed back for %.1f s: %s",
            head.task,
            head.id,
            delay,
            f"no task of that name is known to {self._hostname}"
            if isinstance(error, NotRegistered)
            else error,
        )
        head.parked_at, head.parked = first, head.parked + 1
        again = replace(delivery.envelope, body=pack(head, payload), not_before=now + delay)
        return Settlement(delivery, Verdict.RETRY, again)

    def lost(self, delivery: Delivery, error: Exception) -> Settlement:
        """Return how a delivery ends whose process is gone."""
        head: Headers | None = None
        policy = Policy(max_deliveries=self._app.conf.task_max_deliveries)
        try:
            head, _ = unpack(delivery.envelope.body)
            prepared = self._prepared.get(head.task) or self._find(head.task)
            if prepared is not None:
                policy = prepared.policy
        except CeleryError:
            pass  # a body that cannot be read is buried when it is claimed again
        now = self._app.clock.time()
        decision = decide(policy, error, handed_out=delivery.handed_out, now=now)
        name = head.task if head is not None else "?"
        logger.error("Task %s[%s]: %s", name, delivery.envelope.id, error)
        settlement = Settlement(delivery, decision.verdict, reason=decision.reason)
        self._teller.lost(delivery, error, final=decision.state == FAILURE)
        if decision.state is not None:
            self._end_unread(settlement, head, decision.state, error)
        return settlement

    def _log_error(self, job: _Job, error: BaseException) -> None:
        if not self._log:
            return
        name, task_id, attempt = job.head.task, job.head.id, job.attempt
        if isinstance(error, Retry):
            logger.info("Task %s[%s] retry: %s", name, task_id, error)
            return
        shown = bounded_repr(error)  # a user's __repr__ may raise
        if isinstance(error, tuple(job.prepared.task.throws or ())):
            logger.info("Task %s[%s] raised expected: %s", name, task_id, shown)
        elif isinstance(error, CeleryError) and attempt.traceback is None:
            logger.warning("Task %s[%s]: %s", name, task_id, shown)
        else:
            logger.error(
                "Task %s[%s] raised unexpected: %s\n%s", name, task_id, shown, attempt.traceback
            )


def _ignored(prepared: Prepared, head: Headers) -> bool:
    """Return whether no result is kept: the call's word counts before the task's."""
    return prepared.ignore if head.ignore_result is None else head.ignore_result


def _check_arguments(check: Callable[..., Any], name: str, args: Any, kwargs: Any) -> None:
    try:
        check(*args, **kwargs)
    except TypeError as error:
        raise InvalidTaskError(f"its arguments do not fit {name}: {error}") from None
