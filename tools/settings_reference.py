"""Writes docs/settings.md from the table of settings: `python tools/settings_reference.py`."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from celeriac.kernel.accepted import FOREIGN
from celeriac.kernel.setting import Setting
from celeriac.kernel.settings import SETTINGS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"

SECTIONS = {
    "Broker": ("broker_",),
    "Results": ("result_",),
    "Tasks": ("task_",),
    "Worker": ("worker_",),
    "Schedules": ("beat_",),
    "Events and control": ("event_", "control_"),
    "Redis": ("redis_",),
    "Security": ("security_",),
}
"""The page's headings by the prefixes of the settings under them; the rest is general."""

GENERAL = "General"

HEAD = """\
# Settings

Written by `tools/settings_reference.py` from `celeriac/kernel/settings.py`: change it there.

Set them on `app.conf`, in a module or a mapping that `app.config_from_object` reads, or in the
environment as `CELERIAC_<NAME>`. Celery's upper-case names work as well: `CELERY_<NAME>` for each,
and those in the last column. `celeriac settings` shows the values in force and where each is from.

Types: `seconds` is a number or a `timedelta`, `any` is checked where it is used, and a `?` allows
`None`. Lists can be written as one string with commas.
"""

WITHOUT_EFFECT = """\
## Accepted without effect

A Celery program may set these; celeriac does nothing with them.

| Name | Why |
| --- | --- |
"""


def section_of(setting: Setting) -> str:
    """Return the heading under which a setting stands."""
    found = [name for name, starts in SECTIONS.items() if setting.name.startswith(starts)]
    return found[0] if found else GENERAL


def _default(value: Any) -> str:
    if isinstance(value, timedelta):
        return f"`timedelta({'days' if not value.seconds else 'seconds'}={_amount(value)})`"
    if isinstance(value, tuple):
        value = list(value)
    return f"`{value!r}`"


def _amount(value: timedelta) -> str:
    return f"{value.total_seconds():g}" if value.seconds else str(value.days)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _row(*cells: str) -> str:
    return f"| {' | '.join(_cell(cell) for cell in cells)} |\n"


def page() -> str:
    """Return the text of the page."""
    text = [HEAD]
    used = [setting for setting in SETTINGS if not setting.ignored]
    for section in (GENERAL, *SECTIONS):
        rows = sorted(
            (setting for setting in used if section_of(setting) == section),
            key=lambda setting: setting.name,
        )
        if not rows:
            continue
        text.append(f"\n## {section}\n\n")
        text.append(_row("Name", "Type", "Default", "What it does", "Celery's old names"))
        text.append("| --- | --- | --- | --- | --- |\n")
        text += [
            _row(
                f"`{setting.name}`",
                setting.kind,
                _default(setting.default),
                setting.help,
                ", ".join(f"`{old}`" for old in setting.old),
            )
            for setting in rows
        ]
    text.append(f"\n{WITHOUT_EFFECT}")
    ignored = sorted(
        (setting for setting in SETTINGS if setting.ignored), key=lambda setting: setting.name
    )
    text += [_row(f"`{setting.name}`", setting.ignored) for setting in ignored]
    text += [
        _row(f"`{prefix}*`", "belongs to a store that celeriac has not got")
        for prefix in sorted(FOREIGN)
    ]
    return "".join(text)


def main() -> int:
    """Write the page, or with --check say whether it is up to date."""
    text = page()
    if "--check" in sys.argv[1:]:
        return int(PAGE.read_text(encoding="utf-8") != text)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
