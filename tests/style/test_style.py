"""The house style, as far as a machine can see it: docstrings, sizes, and no trace of a workplace."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.source import parsed

PROJECT = Path(__file__).parents[2]
SRC = PROJECT / "src" / "celeriac"
MAX_LINES = 600

LONG_FILES: dict[str, str] = {
    "worker/execute.py": "a delivery from the claim to the settlement, in one place",
    "client/app.py": "the composition root, and Celery puts its whole API on it",
}
"""Files that may be longer than MAX_LINES, each with its reason."""

# Written in pieces, so that this file does not name what it looks for.
TRACES = re.compile(
    "|".join(
        [
            r"(?<![\w.])/" + r"work/",
            r"/ho" + r"me/\w",
            r"/ro" + r"ot/",
            r"/op" + r"t/(pypi|wheels)",
            r"Clau" + r"de",
            r"Anthro" + r"pic",
        ]
    )
)
PUBLIC_HOSTS = {"https://pypi.org", "https://files.pythonhosted.org"}


def files(*suffixes: str) -> list[Path]:
    """Return the project's files, git's ignored ones left out."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=PROJECT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:  # not a git tree: an sdist
        found = (p for p in PROJECT.rglob("*") if ".venv" not in p.parts)
    else:
        found = (PROJECT / name for name in listed.stdout.decode().split("\0") if name)
    return sorted(p for p in found if p.is_file() and (not suffixes or p.suffix in suffixes))


def sources() -> list[Path]:
    """Return the package's modules."""
    return sorted(SRC.rglob("*.py"))


def name_of(path: Path) -> str:
    """Return a path as a test's id."""
    return path.relative_to(PROJECT).as_posix()


def _is_sentence(doc: str | None) -> bool:
    first = (doc or "").strip().split("\n\n")[0].replace("\n", " ")
    return bool(re.match(r"[^a-z].*[.:!?]$", first)) or bool(re.match(r"`.*[.:]$", first))


def _public(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Yield what a user may call: top-level classes and functions, and methods of public classes."""
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("_") or _repeats(node):
            continue
        yield node.name, node
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if (
                    isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
                    and not inner.name.startswith(
                        ("_", "test_")
                    )  # the contract's tests are named in full
                    and not _repeats(inner)
                ):
                    yield f"{node.name}.{inner.name}", inner


def _repeats(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Tell whether a method is documented elsewhere: an overload, a setter, an `@override`."""
    names = {ast.unparse(d).split("(")[0].split(".")[-1] for d in node.decorator_list}
    return bool(names & {"overload", "setter", "deleter", "override"})


def _protocols() -> set[str]:
    """Return the names of methods that the ports' protocols document: an implementation need not."""
    names: set[str] = set()
    for path in (SRC / "ports").glob("*.py"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef):
                names.add(node.name)
    return names


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_module_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    if not text.strip():
        pytest.fail("an empty module: give it one sentence")
    doc = ast.get_docstring(parsed(path))
    assert doc, "no module docstring"
    assert _is_sentence(doc), f"the first paragraph is no sentence: {doc.splitlines()[0]!r}"


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_public_names_have_docstrings(path: Path) -> None:
    inherited = _protocols()
    part = path.relative_to(SRC).parts[0]
    missing = []
    for name, node in _public(parsed(path)):
        assert isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if part in {"drivers", "pools", "codecs", "plugins"} and name.split(".")[-1] in inherited:
            continue
        if ast.get_docstring(node) is None:
            missing.append(f"line {node.lineno}: {name}")
    assert not missing, "public, and without a docstring"


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_file_is_not_too_long(path: Path) -> None:
    lines = path.read_text().count("\n")
    name = path.relative_to(SRC).as_posix()
    if name not in LONG_FILES:
        assert lines <= MAX_LINES, f"{lines} lines: two nouns in one file?"


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_no_name_of_machinery(path: Path) -> None:
    wrong = [
        node.name
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ClassDef)
        and re.search(r"(Manager|Handler|Helper|Mixin)$|^_?Base[A-Z]", node.name)
        and not any("logging" in ast.unparse(base) for base in node.bases)
    ]
    assert not wrong, "name it after what it is"


def test_no_trace_of_a_workplace() -> None:
    wrong = []
    for path in files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        wrong += [
            f"{name_of(path)}:{number}: {line.strip()[:80]}"
            for number, line in enumerate(text.splitlines(), 1)
            if TRACES.search(line)
        ]
    assert not wrong


def test_lock_names_only_the_public_index() -> None:
    hosts = set(re.findall(r"\w+://[^/\"\s]+", (PROJECT / "uv.lock").read_text()))
    assert hosts <= PUBLIC_HOSTS, "made with a mirror in force: use `make lock`"


def test_docs_are_linked_and_links_lead_somewhere() -> None:
    docs = PROJECT / "docs"
    pages = {p.relative_to(PROJECT).as_posix() for p in files(".md") if docs in p.parents}
    index = (docs / "index.md").read_text()
    unlisted = sorted(p for p in pages if p != "docs/index.md" and f"({p[5:]})" not in index)
    assert not unlisted, "not in docs/index.md"
    broken = []
    for path in files(".md"):
        text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
        broken += [
            f"{name_of(path)}: {target}"
            for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
            if "://" not in target and not (path.parent / target).exists()
        ]
    assert not broken
