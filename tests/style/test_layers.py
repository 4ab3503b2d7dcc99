"""The import direction: which part may import which, no cycles, no late imports but those listed.

The table below is the one of docs/architecture.md.  Nothing here imports celeriac: modules are
parsed, so that a module that cannot be imported is checked too.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from tests.support.source import parsed

SRC = Path(__file__).parents[2] / "src"
ROOT = SRC / "celeriac"

LOW = {"kernel", "ports"}
TOP = {"cli", "dashboard", "contrib", "testing"}
ALLOWED: dict[str, set[str]] = {
    "kernel": set(),
    "ports": {"kernel"},
    # Found by name and imported by nobody: a driver knows the ports and itself.
    "drivers": LOW,
    "pools": LOW,
    "codecs": LOW,
    "plugins": LOW,
    "client": LOW,
    "worker": LOW | {"client"},
    "beat": LOW | {"client"},
    "control": LOW | {"client"},
    "events": LOW | {"client"},
    # Modules at the root and in utils/: Celery's module names, re-exports only.
    "door": LOW | {"client", "control", "events", "beat"},
}
"""What each part may import beside itself; those in TOP may import everything."""

DOORS = {
    # The doors that Celery's API puts on the app: (module, function) -> the parts it opens.
    ("celeriac.client.app", "Celeriac.worker_main"): ("celeriac.cli",),
    # The one place where a worker and the inbox of its commands are put together.
    ("celeriac.client.app", "Celeriac.Worker"): (
        "celeriac.worker",
        "celeriac.control",
        "celeriac.events",
    ),
    ("celeriac.client.app", "Celeriac.control"): ("celeriac.control",),
    ("celeriac.client.app", "Celeriac.events"): ("celeriac.events",),
    ("celeriac.client.app", "Celeriac.Beat"): ("celeriac.beat",),
    ("celeriac.client.app", "Celeriac.schedules"): ("celeriac.beat",),
}
OPTIONAL = frozenset(
    "backports brotli cloudpickle compression django hiredis kombu opentelemetry pika psutil psycopg "
    "psycopg_pool pydantic redis rich setproctitle starlette tblib uvicorn uvloop watchfiles "
    "yaml".split()
)
"""Libraries of extras, and `rich`, which only some commands need: imported on first use."""

IMPURE = frozenset(
    "asyncio multiprocessing queue select selectors signal socket ssl subprocess threading".split()
)
CLOCKS = {"celeriac.kernel.clock", "celeriac.kernel.ids"}
"""The two kernel modules that may ask the machine for the time."""


@dataclass
class Module:
    """A parsed module and what it imports."""

    name: str
    tree: ast.Module
    early: set[str] = field(default_factory=set)
    late: set[tuple[str, str]] = field(default_factory=set)  # (function, imported)
    typing: set[str] = field(default_factory=set)  # under `if TYPE_CHECKING`

    @property
    def part(self) -> str:
        """The row of ALLOWED that this module is in."""
        return part_of(self.name)


def part_of(name: str) -> str:
    """Return the part a module belongs to; a file at the root and utils/ are doors."""
    words = name.split(".")
    if len(words) > 1 and (words[1] in ALLOWED or words[1] in TOP):
        return words[1]
    return "door"


def family_of(name: str) -> str:
    """Return celeriac.drivers.<family> of a driver's module."""
    return ".".join(name.split(".")[:3])


def _walk(
    node: ast.AST, where: str = "", typing: bool = False
) -> Iterator[tuple[ast.AST, str, bool]]:
    for child in ast.iter_child_nodes(node):
        inner, guarded = where, typing
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{where}.{child.name}".lstrip(".")
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            guarded = True
        yield child, where, typing
        yield from _walk(child, inner, guarded)


def _functions(tree: ast.Module) -> set[str]:
    return {
        f"{where}.{node.name}".lstrip(".")
        for node, where, _ in _walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@cache
def modules() -> dict[str, Module]:
    """Return every module of the package by its dotted name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        words = path.relative_to(SRC).with_suffix("").parts
        name = ".".join(words[:-1] if words[-1] == "__init__" else words)
        found[name] = Module(name, parsed(path))
    for module in found.values():
        functions = _functions(module.tree)
        for node, where, typing in _walk(module.tree):
            for target in _targets(node, found):
                inside = [f for f in functions if where == f or where.startswith(f + ".")]
                if typing:
                    module.typing.add(target)
                elif inside:
                    module.late.add((min(inside, key=len), target))
                else:
                    module.early.add(target)
    return found


def _targets(node: ast.AST, known: dict[str, Module]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name
    elif isinstance(node, ast.ImportFrom):
        assert not node.level, f"a relative import: {ast.unparse(node)}"
        for alias in node.names:
            # `from package import module` is an arrow to the module.
            full = f"{node.module}.{alias.name}"
            yield full if full in known else str(node.module)


def is_door(module: str, function: str, target: str) -> bool:
    """Tell whether a late import is one of DOORS."""
    parts = DOORS.get((module, function), ())
    return any(f"{target}.".startswith(f"{part}.") for part in parts)


def ours(names: set[str]) -> set[str]:
    """Return those that are celeriac's own modules."""
    return {name for name in names if name.split(".")[0] == "celeriac"}


def every() -> list[Module]:
    """Return all modules."""
    return list(modules().values())


@pytest.mark.parametrize("module", every(), ids=lambda m: m.name)
def test_arrows_point_down(module: Module) -> None:
    if module.part in TOP or module.name == "celeriac.__main__":
        return
    late = {
        target for function, target in module.late if not is_door(module.name, function, target)
    }
    wrong = []
    for target in sorted(ours(module.early | module.typing | late)):
        part = part_of(target)
        same = part == module.part
        if same and part == "drivers":
            same = family_of(target) == family_of(module.name)
        if not same and part not in ALLOWED[module.part]:
            wrong.append(f"{module.name} -> {target}")
    assert not wrong, f"{module.part} may import only {sorted(ALLOWED[module.part])} and itself"


@pytest.mark.parametrize("module", every(), ids=lambda m: m.name)
def test_late_imports_are_listed(module: Module) -> None:
    wrong = [
        f"{module.name}: {function} imports {target}"
        for function, target in sorted(module.late)
        if not is_door(module.name, function, target)
        and target.split(".")[0] not in OPTIONAL
        and module.part != "cli"  # its commands are doors: each imports what it runs
    ]
    assert not wrong, "an import inside a function: move it up, or argue for a line in DOORS"


def test_no_cycles() -> None:
    arrows = {m.name: ours(m.early) - {m.name} for m in every()}
    state: dict[str, int] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if state.get(name) == 2 or name not in arrows:
            return
        assert state.get(name) != 1, " -> ".join([*path[path.index(name) :], name])
        state[name] = 1
        for target in sorted(arrows[name]):
            visit(target, (*path, name))
        state[name] = 2

    for name in sorted(arrows):
        visit(name, ())


def _asks_the_time(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom) and node.module == "time":
        return True
    if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name | ast.Attribute):
        return False
    owner = ast.unparse(node.value).split(".")[-1]
    return owner == "time" or (owner == "datetime" and node.attr in {"now", "utcnow", "today"})


@pytest.mark.parametrize("module", [m for m in every() if m.part == "kernel"], ids=lambda m: m.name)
def test_kernel_is_pure(module: Module) -> None:
    everything = module.early | module.typing | {target for _, target in module.late}
    outside = {name.split(".")[0] for name in everything}
    assert not outside & IMPURE
    assert outside <= sys.stdlib_module_names | {"celeriac", "msgspec"}
    if module.name not in CLOCKS:
        asks = [ast.unparse(n) for n in ast.walk(module.tree) if _asks_the_time(n)]
        assert not asks, "the kernel is told the time"


@pytest.mark.parametrize("module", [m for m in every() if m.part == "ports"], ids=lambda m: m.name)
def test_ports_need_no_library(module: Module) -> None:
    outside = {name.split(".")[0] for name in module.early}
    assert outside <= sys.stdlib_module_names | {"celeriac"}


@pytest.mark.parametrize("module", every(), ids=lambda m: m.name)
def test_only_the_registry_finds_parts_by_name(module: Module) -> None:
    if module.name == "celeriac.ports.registry" or module.part in TOP:
        return
    wrong = [
        ast.unparse(node)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith(("import_module", "__import__"))
        and any("'celeriac" in ast.unparse(argument) for argument in node.args)
    ]
    assert not wrong, "an arrow that goes round the table"


def test_the_lists_hold_nothing_old() -> None:
    parts = {p.parent.name for p in ROOT.glob("*/*.py")} - {"utils"}
    assert parts <= set(ALLOWED) | TOP, "a part that is not in the table"
