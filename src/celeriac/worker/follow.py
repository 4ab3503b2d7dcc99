"""What follows a task that has ended: links, the next step, the end of what will never run.

Every follow-up has the same id however often its task is run, so that a second delivery repeats
and does not double.

Owns: Following, gathered.  Thread rule: may be used by any number of threads at once.
May import: kernel, ports, client.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from celeriac.client.app import Celeriac
from celeriac.client.context import Context
from celeriac.client.errbacks import call_errback, takes_three
from celeriac.client.groups import GroupResult
from celeriac.client.records import make_record, read_meta, result_reader
from celeriac.client.workflow import Emission, pieces_of, results_of
from celeriac.kernel.emit import emit, emit_step, next_of_lane
from celeriac.kernel.errors import (
    BackendGetMetaError,
    CeleryError,
    ChordError,
    ImproperlyConfigured,
)
from celeriac.kernel.failure import rebuild
from celeriac.kernel.message import Envelope, Record
from celeriac.kernel.plan import (
    Step,
    as_one_task,
    end_of,
    expand,
    from_wire,
    ids_of,
    number,
    override,
    to_wire,
)
from celeriac.kernel.states import FAILURE, IGNORED, PROPAGATE_STATES
from celeriac.kernel.wire import Headers

logger = logging.getLogger("celeriac.task")

NOTED = 1_000
"""Parts of a chord's header that the record of the task before it names; larger ones are left out."""

MARKED = 500
"""Records of steps that will never run, in one write."""


def gathered(app: Celeriac, head: Headers) -> tuple[list[Any], ChordError | None]:
    """Return the results that a chord's body is called with, or why it is not.

    :raises BrokerUnavailable: the store is away.
    """
    group = head.gather
    assert group is not None
    read = result_reader(app)
    values: list[Any] = []
    found = False
    for record in app.results.parts(group):
        found, held = True, record.id == group
        if record.state in PROPAGATE_STATES:
            error = _error_of(app, record)
            if not head.collect or held:
                who = "The generator of its header" if held else f"Dependency {record.id}"
                failed = ChordError(f"{who} raised {error!r}")
                failed.__cause__ = error
                return [], failed
            values.append(error)
        elif not held:
            try:
                values.append(None if record.state == IGNORED else read(record))
            except BackendGetMetaError as broken:
                return [], ChordError(f"Dependency {record.id} cannot be read: {broken}")
    if not found:
        return [], ChordError(f"the results of chord {group} are gone: they were kept too short")
    return values, None


def _error_of(app: Celeriac, record: Record) -> BaseException:
    if record.body is None:
        return CeleryError("its outcome was refused by the result store")
    try:
        found = read_meta(app, record)["result"]
    except BackendGetMetaError as broken:
        return broken
    return found if isinstance(found, BaseException) else CeleryError(str(found))


class Following:
    """Makes the follow-ups of ended tasks for one worker."""

    def __init__(self, app: Celeriac) -> None:
        self._app = app

    def _emission(self, head: Headers, name: str) -> Emission:
        origin = (head.root_id or head.id, head.id)
        return Emission(self._app, origin=origin, seed=f"{head.id}/{name}", keep=True)

    # -- success --------------------------------------------------------------------------------

    def callbacks(self, request: Context, value: Any) -> list[Envelope]:
        """Return the calls of what is linked to a task that returned."""
        links = request.embed.get("callbacks") or ()
        return [
            envelope
            for index, link in enumerate(links)
            for envelope in self._linked(request, link, (value,), f"callbacks{index}")
        ]

    def _linked(
        self, request: Context, link: Mapping[str, Any], args: tuple[Any, ...], name: str
    ) -> list[Envelope]:
        out = self._emission(request.head, name)
        steps = from_wire([link])
        number(steps, out.new_id)
        emit(steps, out, args)
        out.flush()
        self._note_child(request, steps)
        return out.envelopes

    def _note_child(self, request: Context, steps: Sequence[Step]) -> None:
        result = results_of(self._app, steps)
        if result is not None:
            header = result.parent
            if isinstance(header, GroupResult) and len(header) <= NOTED:
                header.parent = None  # a chord is noted with its header, for who draws the tree
            else:
                result.parent = None
            request.children = [*(request.children or ()), result.as_tuple()]

    def next_step(self, request: Context, value: Any) -> list[Envelope]:
        """Return the calls of a chain's next step."""
        head, embed = request.head, request.embed
        rest = list(embed.get("chain") or ())
        more = embed.get("more")
        # Celery keeps the rest of a chain reversed: the next step is the last one.
        steps = from_wire([rest.pop()])
        rest += [to_wire(step) for step in steps[:0:-1]]
        if not rest and more:
            piece = self._piece(more)
            rest, more = piece["rest"], piece["more"]
        out = self._emission(head, "chain")
        if not steps:  # an empty group: what follows it is next
            if not rest:
                return []
            steps = from_wire([rest.pop()])
        number(steps[:1], out.new_id)
        lane = embed.get("lane")
        emit_step(steps[0], rest, more, out, (value,), slot=head.slot, lane=lane)
        out.flush()
        self._note_child(request, steps[:1])
        return out.envelopes

    def _piece(self, name: str) -> dict[str, Any]:
        found = pieces_of(self._app, [name]).get(name)
        if found is None:
            raise CeleryError("the later steps of this chain are gone from the result store")
        return found

    def replacement(self, request: Context, sig: Any) -> list[Envelope]:
        """Return the calls of what takes a task's place: its id, its links, all that follows it."""
        head, embed = request.head, request.embed
        steps = expand(sig)
        if not steps:
            raise ImproperlyConfigured("a task cannot be replaced by an empty chain or group")
        nesting = head.replaced_task_nesting + 1
        if steps[-1]["subtask_type"] == "group":
            steps = as_one_task(steps)
        links = {"link": embed.get("callbacks"), "link_error": embed.get("errbacks")}
        end = {key: getattr(head, key) for key in ("group", "group_index")}
        override(steps, {**links, "task_id": request.id, "replaced_task_nesting": nesting})
        holder = end_of(steps)["options"]
        holder["replaced_task_nesting"] = nesting
        holder.update(
            {
                key: value
                for key, value in (("group_id", end["group"]), ("group_index", end["group_index"]))
                if value is not None
            }
        )
        out = self._emission(head, f"replace{nesting}")
        number(steps, out.new_id)
        chain = [*(embed.get("chain") or ()), *(to_wire(step) for step in steps[:0:-1])]
        lane, more = embed.get("lane"), embed.get("more")
        emit_step(steps[0], chain, more, out, slot=head.slot, lane=lane)
        out.flush()
        return out.envelopes

    # -- the end of a branch --------------------------------------------------------------------

    def lane(self, head: Headers, embed: Mapping[str, Any]) -> list[Envelope]:
        """Return the calls of the branch that waited for this one's end."""
        lane = embed.get("lane")
        if lane and not lane["rest"] and lane.get("more"):
            lane = self._piece(lane["more"])
        found = next_of_lane(lane)
        if found is None:
            return []
        branch, behind = found
        out = self._emission(head, "lane")
        steps = from_wire(branch["steps"])
        number(steps, out.new_id)
        slot = branch["slot"]
        emit(steps, out, slot=(slot[0], slot[1]) if slot else None, lane=behind)
        out.flush()
        return out.envelopes

    def errbacks(
        self, request: Context, error: BaseException, traceback: str | None
    ) -> list[Envelope]:
        """Call the errbacks that take (request, exception, traceback) and return the calls of others.

        Those get the id of the failed task.
        """
        made: list[Envelope] = []
        for index, link in enumerate(request.embed.get("errbacks") or ()):
            try:
                task = self._app.tasks.get(link["task"])
                if task is not None and takes_three(task, link):
                    call_errback(task, link, request, error, traceback)
                else:
                    made += self._linked(request, link, (request.id,), f"errbacks{index}")
            except (CeleryError, TypeError, ValueError, KeyError) as broken:
                logger.error(
                    "an errback of %s[%s] was not sent: %s", request.head.task, request.id, broken
                )
        return made

    # -- what will never run --------------------------------------------------------------------

    def end_rest(
        self, head: Headers, embed: Mapping[str, Any], envelope: Envelope
    ) -> list[Envelope]:
        """Do what a `doom` message is for; return what it sends."""
        doom = head.doom or {}
        error = rebuild(doom["error"])
        head = copy.copy(head)
        head.id, head.doom = doom["id"], None
        request = Context(head, envelope, (), {}, dict(embed))
        made: list[Envelope] = []
        if self._app.keeps_results:
            self._mark(head, embed, doom["state"], error, doom["traceback"])
        if doom["unread"]:
            if doom["state"] == FAILURE:
                made += self.errbacks(request, error, doom["traceback"])
            made += self.lane(head, embed)
        return made

    def _mark(
        self,
        head: Headers,
        embed: Mapping[str, Any],
        state: str,
        error: BaseException,
        traceback: str | None,
    ) -> None:
        """Store, for each step that will not run, how the one before it ended."""
        records: list[Record] = []
        for step_id, name in self._never(embed):
            fake = Headers(name, step_id, root_id=head.root_id or head.id, parent_id=head.id)
            request = Context(fake, Envelope(step_id, "", b""))
            records.append(make_record(self._app, request, state, error, traceback))
            if len(records) >= MARKED:
                self._app.store(records)
                records = []
        if records:
            self._app.store(records)

    def _never(self, embed: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        rest, more = embed.get("chain") or (), embed.get("more")
        while True:
            for wired in reversed(rest):
                for step in from_wire([wired]):
                    if step["options"].get("ignore_result"):
                        continue
                    # A step that was never numbered has no result that anybody knows.
                    if step["options"].get("task_id"):
                        for step_id in ids_of(step):
                            yield step_id, step["task"]
            if not more:
                return
            piece = pieces_of(self._app, [more]).get(more)
            if piece is None:
                return
            rest, more = piece["rest"], piece["more"]
