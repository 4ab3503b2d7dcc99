"""`celeriac graph`: how far a workflow is, as a tree.

The tree is what the store knows: from a task up to the first of its workflow, and down to what each
task that ended has sent.  What is not sent yet nobody knows but the message before it.

Owns: the command, Node, read_tree, draw.  May import: everything.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from celeriac.cli.calls import NOT_READY
from celeriac.cli.output import print_json
from celeriac.cli.session import Command, Session, pass_session, say
from celeriac.kernel.errors import TimeoutError
from celeriac.kernel.redact import bounded_repr
from celeriac.kernel.states import (
    EXCEPTION_STATES,
    IGNORED,
    PENDING,
    READY_STATES,
    RETRY,
    REVOKED,
    STARTED,
    SUCCESS,
)

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

SHOWN = 20
"""Members of a group that are drawn without --all; those that did not succeed come first."""

LOOK = 1.0
"""Seconds after which --watch looks for what began meanwhile; an end is seen at once."""

_MARKS = {SUCCESS: "✔", STARTED: "▶", RETRY: "↻", REVOKED: "⊘", IGNORED: "–", PENDING: "·"}
_COLOURS = {SUCCESS: "green", STARTED: "cyan", RETRY: "yellow", REVOKED: "magenta"}


@dataclass(slots=True, eq=False)
class Node:
    """A task, or a group of them."""

    id: str
    is_group: bool = False
    state: str = PENDING
    meta: dict[str, Any] = field(default_factory=dict)
    children: list[Node] = field(default_factory=list)

    def walk(self) -> Iterator[Node]:
        """Yield this node and everything below it, each once."""
        stack: list[Node] = [self]
        seen: set[str] = set()
        while stack:
            node = stack.pop()
            if node.id not in seen:
                seen.add(node.id)
                yield node
                stack.extend(reversed(node.children))

    def tasks(self) -> Iterator[Node]:
        """Yield the tasks of the tree."""
        return (node for node in self.walk() if not node.is_group)


class _Reader:
    """Reads a tree level by level: one question to the store for each."""

    def __init__(self, app: Celeriac) -> None:
        self._app = app
        self._nodes: dict[str, Node] = {}
        self._edges: set[tuple[str, str]] = set()
        self._done: set[str] = set()

    def task(self, task_id: str) -> tuple[Node, bool]:
        known = task_id in self._nodes
        node = self._nodes.setdefault(task_id, Node(task_id))
        return node, not known

    def look(self, nodes: Sequence[Node]) -> None:
        from celeriac.client.records import read_meta

        records = self._app.results.fetch([node.id for node in nodes])
        for node in nodes:
            record = records.get(node.id)
            if record is not None:
                node.meta, node.state = read_meta(self._app, record), record.state

    def attach(self, parent: Node, found: Any) -> list[Node]:
        """Put a child, as `as_tuple` gives it, below a node; return the tasks in it."""
        head, members = found
        name, before = head if isinstance(head, (list, tuple)) else (head, None)
        node, _ = self.task(str(name))
        # A chord is noted by its body, whose parent is the header.
        header = self.attach(parent, before) if before and before[1] is not None else []
        self.link(parent, node)
        if members is None:
            return [*header, node]
        node.is_group = True
        return [*header, *(task for member in members for task in self.attach(node, member))]

    def link(self, parent: Node, child: Node) -> None:
        if (parent.id, child.id) not in self._edges and parent is not child:
            self._edges.add((parent.id, child.id))
            parent.children.append(child)

    def climb(self, node: Node) -> list[Node]:
        """Return the tasks above a task, the first of all at the front, and the task itself."""
        path = [node]
        while above := path[-1].meta.get("parent_id"):
            parent, new = self.task(str(above))
            self.look([parent])
            if not new or parent.state == PENDING:
                break  # it has been forgotten, or stores nothing
            path.append(parent)
        return path[::-1]

    def descend(self, level: list[Node]) -> None:
        while level:
            below: list[Node] = []
            for node in level:
                self._done.add(node.id)
                for child in node.meta.get("children") or ():
                    below += self.attach(node, child)
            level = [node for node in below if node.id not in self._done]
            if level:
                self.look(level)


def read_tree(app: Celeriac, task_id: str, *, below: bool = False) -> Node:
    """Return the workflow of a task or of a saved group, as far as the store knows it.

    :param below: begin at that task instead of at the first of its workflow.
    """
    reader = _Reader(app)
    group = app.GroupResult.restore(task_id)
    if group is not None:
        holder = Node("")
        reader.attach(holder, group.as_tuple())
        root = holder.children[0]
        members = list(root.tasks())
        reader.look(members)
        reader.descend(members)
        return root
    start, _ = reader.task(task_id)
    reader.look([start])
    path = [start] if below else reader.climb(start)
    reader.descend([path[0]])
    reached = {node.id for node in path[0].walk()}
    for parent, child in itertools.pairwise(path):
        if child.id not in reached:
            # A chord's body: its parent has not sent it.
            reader.link(parent, child)
            reader.descend([child])
            reached |= {node.id for node in child.walk()}
    return path[0]


def draw(root: Node, *, everything: bool = False) -> list[tuple[str, str | None]]:
    """Return the lines of a tree, each with its colour.

    :param everything: all members of large groups.
    """
    lines: list[tuple[str, str | None]] = []
    stack: list[tuple[Node, str, str]] = [(root, "", "")]
    drawn: set[str] = set()
    while stack:
        node, lead, indent = stack.pop()
        if node.id in drawn:
            lines.append((f"{lead}{node.id}, see above", None))
            continue
        drawn.add(node.id)
        lines.append((lead + _label(node), _colour(node)))
        shown = node.children
        hidden: list[Node] = []
        if not everything and len(shown) > SHOWN:
            first = sorted(shown, key=lambda child: child.state == SUCCESS and not child.is_group)
            kept = {id(child) for child in first[:SHOWN]}
            hidden = [child for child in shown if id(child) not in kept]
            shown = [child for child in shown if id(child) in kept]
        todo: list[tuple[Node, str, str]] = []
        if len(node.children) == 1:
            # The next step of a chain, which may have many.
            stack.append((shown[0], f"{indent}→ ", indent))
            continue
        for number, child in enumerate(shown):
            last = number == len(shown) - 1 and not hidden
            branch, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
            todo.append((child, indent + branch, indent + below))
        if hidden:
            # Drawn as a node of its own, so that it stands behind the others.
            more = Node(f"{len(hidden):,} more: {_sum(hidden)}", is_group=True, state="MORE")
            todo.append((more, indent + "└─ ", indent))
        stack.extend(reversed(todo))
    return lines


def _label(node: Node) -> str:
    if node.state == "MORE":
        return node.id
    if node.is_group:
        return f"group {node.id}  {_sum(list(node.tasks()))}"
    mark = "✘" if node.state in EXCEPTION_STATES - set(_MARKS) else _MARKS.get(node.state, "▶")
    name = f"{node.meta['name']}  " if node.meta.get("name") else ""
    text = f"{mark} {node.state:<8} {name}{node.id}"
    value = node.meta.get("result")
    if node.state == SUCCESS and value is not None:
        text += f"  = {bounded_repr(value, 60)}"
    elif isinstance(value, BaseException):
        text += f"  {type(value).__name__}: {str(value).splitlines()[0] if str(value) else ''}"[
            :100
        ]
    return text


def _sum(nodes: Sequence[Node]) -> str:
    counts = Counter(node.state for node in nodes if not node.is_group)
    done = sum(count for state, count in counts.items() if state in READY_STATES)
    parts = [f"{count:,} {state}" for state, count in counts.most_common() if state != SUCCESS]
    return ", ".join([f"{done:,} of {sum(counts.values()):,} ended", *parts])


def _colour(node: Node) -> str | None:
    if node.is_group:
        return None
    return _COLOURS.get(node.state, "red" if node.state in EXCEPTION_STATES else None)


def _as_json(node: Node) -> dict[str, Any]:
    value = node.meta.get("result")
    made: dict[str, Any] = {"id": node.id, "kind": "group" if node.is_group else "task"}
    if not node.is_group:
        made["state"] = node.state
        made["result"] = repr(value) if isinstance(value, BaseException) else value
    made["children"] = [child.id for child in node.children]
    return made


def _as_graph(root: Node) -> Any:
    from celeriac.client.graph import Graph

    graph = Graph(label=lambda name: labels[name])
    labels: dict[str, str] = {}
    for node in root.walk():
        name = node.meta.get("name") or ("group" if node.is_group else node.state)
        labels[node.id] = f"{name} {node.id[-8:]}"
        graph.states[node.id] = node.state
        graph.add_arc(node.id)
        for child in node.children:
            graph.add_edge(node.id, child.id)
    return graph


def _exit_code(root: Node) -> int:
    states = {node.state for node in root.tasks()}
    if states - set(READY_STATES):
        return NOT_READY
    return 1 if states & EXCEPTION_STATES else 0


@click.command(cls=Command)
@click.argument("task_id", metavar="ID")
@click.option("--watch", is_flag=True, help="Stay, and show what changes until everything ended.")
@click.option("--below", is_flag=True, help="Begin at ID, not at the first task of its workflow.")
@click.option("--all", "everything", is_flag=True, help="Every member of a large group.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["tree", "dot", "mermaid", "json"]),
    default="tree",
    help="A tree to read, or a graph for another program.",
)
@pass_session
def graph(
    session: Session, task_id: str, *, watch: bool, below: bool, everything: bool, form: str
) -> int:
    """Show how far the workflow of task ID is, as a tree; ID may be that of a saved group.

    Exits with 0 where everything succeeded, with 1 where something failed, and with 75 where
    something has not ended or nothing is known of it.
    """
    app = session.connected()
    if watch:
        if form != "tree":
            raise click.UsageError("--watch draws trees: leave --format out")
        return _watch(session, app, task_id, below, everything)
    root = read_tree(app, task_id, below=below)
    if form == "json":
        # Flat: a chain of ten thousand steps is as deep.
        print_json({"root": root.id, "nodes": [_as_json(node) for node in root.walk()]})
    elif form == "tree":
        for text, colour in draw(root, everything=everything):
            say(click.style(text, fg=colour) if session.color and sys.stdout.isatty() else text)
    else:
        drawn = _as_graph(root)
        say((drawn.dot() if form == "dot" else drawn.mermaid()).rstrip())
    return _exit_code(root)


def _watch(session: Session, app: Celeriac, task_id: str, below: bool, everything: bool) -> int:
    """Draw the tree again whenever something ends, until everything has."""
    with _screen(session) as show:
        while True:
            root = read_tree(app, task_id, below=below)
            show(draw(root, everything=everything))
            if _exit_code(root) != NOT_READY:
                return _exit_code(root)
            open_tasks = [node.id for node in root.tasks() if node.state not in READY_STATES]
            results = app.ResultSet([app.AsyncResult(name) for name in open_tasks])
            with (
                contextlib.suppress(TimeoutError),
                contextlib.closing(results.as_completed(timeout=LOOK)) as ended,
            ):
                next(ended)


@contextlib.contextmanager
def _screen(session: Session) -> Iterator[Any]:
    """Give a function that shows lines: over each other on a terminal, in a pipe the new ones."""
    if not sys.stdout.isatty():
        former: Counter[str] = Counter()

        def append(lines: Sequence[tuple[str, str | None]]) -> None:
            now = Counter(text for text, _ in lines)
            for text, _ in lines:
                if former[text] < 1:
                    say(text)
            former.clear()
            former.update(now)

        yield append
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(no_color=not session.color, highlight=False)
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:

        def redraw(lines: Sequence[tuple[str, str | None]]) -> None:
            texts = (Text(text, style=colour or "") for text, colour in lines)
            live.update(Text("\n").join(texts), refresh=True)

        yield redraw
