"""The admin: results to look at, the schedule to edit.

Owns: TaskResultAdmin, PeriodicTaskAdmin.  May import: celeriac.contrib.django, django.
"""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from celeriac.client.current import get_current_app
from celeriac.contrib.django.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
    TaskResult,
)
from celeriac.contrib.django.tasks import CALL
from celeriac.kernel.errors import CeleryError

RED, GREEN, GREY = "#ba2121", "#2e7d32", "#666"
COLORS = {"SUCCESS": GREEN, "FAILURE": RED, "REVOKED": RED, "RETRY": "#b35900"}


def _pretty(text: str) -> str:
    """Return JSON with its structure seen; what is none as it is."""
    if not text:
        return "-"
    try:
        shown = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        shown = text
    return _block(shown)


def _block(text: str) -> str:
    if not text:
        return "-"
    return str(format_html('<pre style="white-space: pre-wrap; margin: 0">{}</pre>', text))


@admin.register(TaskResult)
class TaskResultAdmin(admin.ModelAdmin):
    """Results are looked at and deleted; nobody edits them."""

    date_hierarchy = "date_done"
    list_display = ("task_id", "name", "state", "date_done", "worker")
    list_filter = ("status", "date_done", "task_name", "worker")
    search_fields = ("task_id", "task_name", "task_args", "task_kwargs", "result", "traceback")
    fieldsets = (
        (None, {"fields": ("task_id", "task_name", "periodic_task_name", "state", "worker")}),
        (_("Call"), {"fields": ("arguments", "named_arguments")}),
        (_("Outcome"), {"fields": ("outcome", "shown_traceback", "date_created", "date_done")}),
    )
    readonly_fields = (
        *("task_id", "task_name", "periodic_task_name", "state", "worker", "arguments"),
        *("named_arguments", "outcome", "shown_traceback", "date_created", "date_done"),
    )

    def has_add_permission(self, request: Any) -> bool:
        """Refuse: results are made by tasks."""
        return False

    def get_queryset(self, request: Any) -> Any:
        """Leave what only the engine reads in the database."""
        found = super().get_queryset(request).defer("body")
        return found.exclude(task_id__endswith=CALL)  # beside the results of Django's own tasks

    @admin.display(description=_("task"), ordering="task_name")
    def name(self, found: TaskResult) -> str:
        """Show the task, and the entry of the schedule that sent it."""
        return str(found.task_name or "-")

    @admin.display(description=_("state"), ordering="status")
    def state(self, found: TaskResult) -> str:
        """Show the state in its colour."""
        color = COLORS.get(found.status, GREY)
        return str(format_html('<b style="color: {}">{}</b>', color, found.status))

    @admin.display(description=_("positional arguments"))
    def arguments(self, found: TaskResult) -> str:
        """Show the arguments."""
        return _pretty(found.task_args)

    @admin.display(description=_("named arguments"))
    def named_arguments(self, found: TaskResult) -> str:
        """Show the arguments."""
        return _pretty(found.task_kwargs)

    @admin.display(description=_("result"))
    def outcome(self, found: TaskResult) -> str:
        """Show the returned value, or the exception."""
        return _pretty(found.result)

    @admin.display(description=_("traceback"))
    def shown_traceback(self, found: TaskResult) -> str:
        """Show the traceback, its lines kept."""
        return _block(found.traceback)


class PeriodicTaskForm(forms.ModelForm):
    """Offers the tasks that this program knows."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        app = get_current_app()
        app.import_modules()
        names = sorted(app.tasks.regular())
        field = self.fields.get("task")
        if field is not None:
            field.widget = _Choice(names)

    class Meta:
        model = PeriodicTask
        exclude = ()


class _Choice(forms.TextInput):
    """A text with a list to choose from; a task of another program can be typed."""

    def __init__(self, names: list[str]) -> None:
        super().__init__({"list": "celeriac-tasks", "class": "vTextField"})
        self._names = names

    def render(self, *args: Any, **kwargs: Any) -> str:
        from django.utils.html import format_html_join

        options = format_html_join("", "<option>{}</option>", ((name,) for name in self._names))
        shown = super().render(*args, **kwargs)
        return str(format_html('{}<datalist id="celeriac-tasks">{}</datalist>', shown, options))


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(admin.ModelAdmin):
    """Entries are edited while beat runs, which follows at once."""

    form = PeriodicTaskForm
    list_display = (
        *("name", "task", "when", "enabled", "last_run", "next_run", "total_run_count"),
        *("one_off", "from_code"),
    )
    list_filter = ("enabled", "one_off", "from_code", "task")
    search_fields = ("name", "task", "description")
    list_select_related = ("interval", "crontab", "solar", "clocked")
    actions = ("run_now", "enable", "disable")
    readonly_fields = ("when", "last_run", "next_run", "total_run_count", "from_code")
    fieldsets = (
        (None, {"fields": ("name", "task", "enabled", "description")}),
        (
            _("Schedule"),
            {"fields": ("interval", "crontab", "solar", "clocked", "start_time", "one_off")},
        ),
        (_("Runs"), {"fields": ("when", "last_run", "next_run", "total_run_count", "from_code")}),
        (_("Arguments"), {"fields": ("args", "kwargs")}),
        (
            _("Message"),
            {
                "classes": ("collapse",),
                "fields": (
                    *("queue", "exchange", "routing_key", "headers", "priority"),
                    *("expires", "expire_seconds", "misfire"),
                ),
            },
        ),
    )

    @admin.display(description=_("schedule"))
    def when(self, entry: PeriodicTask) -> str:
        """Show the schedule."""
        return entry.schedule_text or "-"

    @admin.display(description=_("last run"), ordering="last_at")
    def last_run(self, entry: PeriodicTask) -> Any:
        """Show when it was last sent."""
        return entry.last_run_at

    @admin.display(description=_("next run"), ordering="next_at")
    def next_run(self, entry: PeriodicTask) -> Any:
        """Show when it is sent next."""
        return entry.next_run_at

    def delete_queryset(self, request: Any, queryset: Any) -> None:
        """Delete one by one: beat is told of each."""
        for entry in queryset:
            entry.delete()

    @admin.action(description=_("Run the selected tasks now"))
    def run_now(self, request: Any, queryset: Any) -> None:
        """Send the tasks, beside their ticks."""
        for entry in queryset:
            try:
                sent = entry.run()
            except (CeleryError, TypeError, ValueError) as error:  # arguments that do not fit, too
                self.message_user(request, f"{entry.name}: {error}", messages.ERROR)
            else:
                self.message_user(request, f"{entry.name}: sent as {sent.id}")

    @admin.action(description=_("Enable the selected tasks"))
    def enable(self, request: Any, queryset: Any) -> None:
        """Let them run from their next tick on."""
        self._switch(request, queryset, True)

    @admin.action(description=_("Disable the selected tasks"))
    def disable(self, request: Any, queryset: Any) -> None:
        """Let no tick of theirs come."""
        self._switch(request, queryset, False)

    def _switch(self, request: Any, queryset: Any, enabled: bool) -> None:
        count = 0
        for entry in queryset:
            entry.enabled = enabled
            try:
                entry.save()
            except (CeleryError, ValueError, TypeError, OverflowError) as error:
                self.message_user(request, f"{entry.name}: {error}", messages.ERROR)
                continue
            if entry.enabled is not enabled:
                said = f"{entry.name}: no run of it is to come"
                self.message_user(request, said, messages.ERROR)
            else:
                count += 1
        self.message_user(request, f"{count} {'enabled' if enabled else 'disabled'}")


for _kind in (IntervalSchedule, CrontabSchedule, SolarSchedule, ClockedSchedule):
    admin.site.register(_kind)
