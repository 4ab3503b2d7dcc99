"""How commands print: tables on a terminal, plain columns in a pipe, JSON where it is asked for.

Owns: print_table, print_json, json_option, ago.  May import: rich, which only a terminal needs.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Sequence
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(value: Any) -> None:
    """Print a value as JSON; what JSON has no form for as text."""
    print(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], *, color: bool = True, title: str = ""
) -> None:
    """Print rows under their columns; numbers stand right."""
    if sys.stdout.isatty():
        _print_rich(columns, rows, color, title)
    else:
        _print_plain(columns, rows, title)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _print_plain(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str) -> None:
    cells = [list(columns), *([_text(value) for value in row] for row in rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    right = {
        index
        for index in range(len(columns))
        if rows and all(_is_number(row[index]) for row in rows)
    }
    if title:
        print(title)
    for row in cells:
        words = [
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(words).rstrip())


def _print_rich(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], color: bool, title: str
) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title or None, box=box.SIMPLE, title_justify="left")
    for index, column in enumerate(columns):
        numbers = bool(rows) and all(_is_number(row[index]) for row in rows)
        # What a row is called stays whole: it is there to be copied.
        table.add_column(
            column,
            justify="right" if numbers else "left",
            overflow="fold",
            no_wrap=index == 0,
        )
    for row in rows:
        table.add_row(*(escape(_text(value)) for value in row))
    Console(no_color=not color, highlight=False).print(table)


def ago(seconds: float) -> str:
    """Return a span of time in words: "3.2 s", "5 min", "2 h", "4 days"."""
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return (
                f"{seconds / size:.0f} {unit}" if seconds >= 10 else f"{seconds / size:.1f} {unit}"
            )
    return f"{seconds / 86_400:.0f} days"


def moment(seconds: float) -> str:
    """Return unix seconds as a local time that can be read."""
    when = dt.datetime.fromtimestamp(seconds, dt.UTC).astimezone()
    return when.strftime("%Y-%m-%d %H:%M:%S")
