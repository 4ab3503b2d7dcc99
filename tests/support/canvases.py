"""Random workflows of one task, which shows what it was called with.

Owns: canvases, build, leaves.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from celeriac.canvas import chain, chord, group

leaf = st.tuples(st.sampled_from(["s", "si"]), st.integers(0, 99))


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.tuples(st.just("chain"), st.lists(inner, min_size=1, max_size=4)),
        st.tuples(st.just("or"), st.lists(inner, min_size=2, max_size=4)),
        st.tuples(st.just("group"), st.lists(inner, min_size=0, max_size=4)),
        st.tuples(st.just("chord"), st.lists(inner, min_size=0, max_size=3), inner),
    )


canvases = st.recursive(leaf, _nested, max_leaves=12)
"""Descriptions of workflows; `build` makes them."""


def build(plan: Any, task: Any) -> Any:
    """Return the workflow of a description, made of signatures of `task`."""
    match plan:
        case ("s" | "si" as kind, tag):
            return getattr(task, kind)(tag)
        case ("chain", parts):
            return chain([build(part, task) for part in parts])
        case ("or", parts):
            first, *others = (build(part, task) for part in parts)
            for other in others:
                first = first | other
            return first
        case ("group", parts):
            return group([build(part, task) for part in parts])
        case ("chord", header, body):
            return chord([build(part, task) for part in header], build(body, task))
    raise AssertionError(plan)
