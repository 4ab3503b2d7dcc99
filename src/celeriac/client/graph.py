"""The tree of results as a graph that can be drawn.

Owns: Graph.  May import: kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TextIO

from celeriac.kernel.states import EXCEPTION_STATES, SUCCESS

_FILLS = {SUCCESS: "#c6e5c6"}
_FAILED, _WAITING = "#f2c4c0", "#eeeeee"


class Graph(Mapping[Any, list[Any]]):
    """Results, each with those that it led to, in the order in which they were met.

    :param label: what a node is called in a drawing.
    """

    def __init__(
        self, edges: Iterable[tuple[Any, Any]] = (), *, label: Callable[[Any], str] = str
    ) -> None:
        self._next: dict[Any, list[Any]] = {}
        self.states: dict[Any, str] = {}
        """The states of nodes that are not results themselves."""
        self._label = label
        for parent, child in edges:
            self.add_arc(child)
            if parent is not None:
                self.add_edge(parent, child)

    def add_arc(self, node: Any) -> None:
        """Add a node."""
        self._next.setdefault(node, [])

    def add_edge(self, parent: Any, child: Any) -> None:
        """Add an edge between two nodes."""
        self.add_arc(parent)
        self.add_arc(child)
        if child not in self._next[parent]:
            self._next[parent].append(child)

    def edges(self) -> list[Any]:
        """Return the nodes that led to others."""
        return [node for node, following in self._next.items() if following]

    def topsort(self) -> list[Any]:
        """Return the nodes so that each stands after those that led to it.

        :raises ValueError: the graph has a cycle.
        """
        open_edges = dict.fromkeys(self._next, 0)
        for following in self._next.values():
            for child in following:
                open_edges[child] += 1
        free = [node for node, count in open_edges.items() if not count]
        for node in free:  # grows
            for child in self._next[node]:
                open_edges[child] -= 1
                if not open_edges[child]:
                    free.append(child)
        if len(free) < len(self._next):
            raise ValueError("the graph has a cycle")
        return free

    def dot(self) -> str:
        """Return the graph in Graphviz's language."""
        names = self._names()
        lines = ["digraph results {", "  node [shape=oval, style=filled];"]
        for node, name in names.items():
            text = self._label(node).replace("\\", "\\\\").replace('"', '\\"')
            lines.append(f'  {name} [label="{text}", fillcolor="{self._fill(node)}"];')
        lines += [f"  {names[parent]} -> {names[child]};" for parent, child in self._pairs()]
        return "\n".join([*lines, "}"]) + "\n"

    def to_dot(self, fh: TextIO, formatter: Any = None) -> None:
        """Write the graph in Graphviz's language to a file."""
        fh.write(self.dot())

    def mermaid(self) -> str:
        """Return the graph in Mermaid's language, which Markdown viewers draw."""
        names = self._names()
        lines = ["flowchart TD"]
        for node, name in names.items():
            text = self._label(node).replace('"', "#quot;")
            lines.append(f'  {name}(["{text}"])')
            lines.append(f"  style {name} fill:{self._fill(node)}")
        lines += [f"  {names[parent]} --> {names[child]}" for parent, child in self._pairs()]
        return "\n".join(lines) + "\n"

    def _fill(self, node: Any) -> str:
        state = self.states.get(node) or getattr(node, "state", None)
        return _FAILED if state in EXCEPTION_STATES else _FILLS.get(str(state), _WAITING)

    def _names(self) -> dict[Any, str]:
        return {node: f"n{number}" for number, node in enumerate(self._next)}

    def _pairs(self) -> Iterator[tuple[Any, Any]]:
        for parent, following in self._next.items():
            for child in following:
                yield parent, child

    def __getitem__(self, node: Any) -> list[Any]:
        return self._next[node]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._next)

    def __len__(self) -> int:
        return len(self._next)

    def __repr__(self) -> str:
        return "\n".join(
            f"{node}({len(following)})" + "".join(f"\n     {child}" for child in following)
            for node, following in self._next.items()
        )
