"""Where celeriac's canvas answers otherwise than Celery's, and why; `docs/from-celery.md` tells users.

Celery's answers stand beside the behaviours.

Owns: DIFFERENCES, Difference, BUGS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Difference:
    """One answer of celeriac's."""

    behaviour: str
    ours: Any
    reason: str
    eager: bool | None = None
    """True: only eagerly; False: only with a worker."""


_AS_WORKER = "eagerly a workflow answers as it does with a worker, so that tests prove something"
_UNKNOWN = (
    "a task that this worker does not know waits for one that does (a rolling deploy), and fails "
    "after `task_unknown_patience`"
)

DIFFERENCES: tuple[Difference, ...] = (
    # With a worker.
    Difference(
        "chain_reused_gives_new_ids",
        (False, ("SUCCESS", 3), ("SUCCESS", 3)),
        "two runs with the same ids would share their results; `freeze()` fixes ids on purpose",
        eager=False,
    ),
    Difference(
        "unserialisable_in_the_middle",
        ("FAILURE", "EncodeError", [["old", True]]),
        "a step whose result cannot be stored has failed: what follows it does not run",
        eager=False,
    ),
    Difference(
        "unknown_task_in_the_middle",
        (("SUCCESS", 2), ("waits for ever",)),
        _UNKNOWN,
        eager=False,
    ),
    Difference(
        "group_with_an_unknown_task",
        (("SUCCESS", 2), ("waits for ever",)),
        _UNKNOWN,
        eager=False,
    ),
    Difference(
        "chord_header_has_a_group",
        ("SUCCESS", [2, 4, 6]),
        "results come in the order of the header, not in that in which parts happened to end",
        eager=False,
    ),
    Difference(
        "deep_nesting",
        ("SUCCESS", [[7, 7, 10], 7]),
        "results come in the order of the header, not in that in which parts happened to end",
        eager=False,
    ),
    Difference(
        "chord_with_an_ignored_part",
        ("SUCCESS", [[[2, None]], {}]),
        "a chord always ends: a part that ignores its own result counts, with None",
        eager=False,
    ),
    # Eagerly.
    *(
        Difference(name, ours, _AS_WORKER, eager=True)
        for name, ours in {
            "group_parts_share_an_id": [[True, 0, False], [True, 1, False]],
            "chord_part_facts": [[True, 0, False], [True, 1, False]],
            "chord_result_parent_is_the_header": ("GroupResult", [2, 4]),
            "chord_task_id": True,
            "chain_ids_are_known_beforehand": (True, True),
            "group_then": [True],
            "replace_keeps_the_id": ("SUCCESS", 3),
            "replace_with_a_chain": ("SUCCESS", 30),
            "replace_with_a_group": ("SUCCESS", [2, 3]),
            "replace_with_an_empty_group": ("SUCCESS", []),
            "replace_with_a_task_that_fails": (("FAILURE", "ValueError"), [["old", True]]),
            "stamp_of_a_task": ("SUCCESS", [{"shop": "north"}, ["shop"]]),
            "stamp_of_a_group_and_a_chain": [[{"shop": "north"}, ["shop"]]] * 2,
            "stamp_of_a_chord": ("SUCCESS", [[[[{"shop": "north"}, ["shop"]]]], {}]),
            "stamp_by_a_visitor": (
                ("SUCCESS", [{"shop": "c.stamps"}, ["shop"]]),
                [{"shop": "c.stamps"}, ["shop"]],
            ),
        }.items()
    ),
    Difference(
        "join_inside_a_task_without_leave",
        ("SUCCESS", 2),
        "eagerly nothing is waited for, so nothing can be waited for in vain",
        eager=True,
    ),
)

BUGS: dict[str, str] = {}
"""Behaviours, or those of one side, that differ and should not: a test fails once they agree."""
