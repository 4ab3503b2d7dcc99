"""Results of tasks, and the chords that are counted.

Owns: TaskResult, Chord, ChordPart, ChordGrowth.  May import: django.
"""

from __future__ import annotations

import json
from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from celeriac.kernel.states import ALL_STATES

STATES = sorted(ALL_STATES)


class TaskResult(models.Model):
    """A task's state.  `body` is what the engine reads; the other columns are for people."""

    task_id = models.CharField(_("task id"), max_length=255, unique=True)
    status = models.CharField(_("state"), max_length=50, db_index=True)
    task_name = models.CharField(_("task"), max_length=255, default="", db_index=True)
    periodic_task_name = models.CharField(_("periodic task"), max_length=255, default="")
    task_args = models.TextField(_("positional arguments"), default="")
    task_kwargs = models.TextField(_("named arguments"), default="")
    worker = models.CharField(_("worker"), max_length=255, default="", db_index=True)
    result = models.TextField(_("result"), default="")
    traceback = models.TextField(_("traceback"), default="")
    date_created = models.DateTimeField(_("first seen"), auto_now_add=True, db_index=True)
    date_done = models.DateTimeField(_("last change"), auto_now=True, db_index=True)
    body = models.BinaryField(null=True, editable=False)
    final = models.BooleanField(default=False, editable=False)
    attempt = models.BigIntegerField(default=0, editable=False)
    handed_out = models.IntegerField(default=1, editable=False)
    expires_at = models.FloatField(default=0.0, editable=False, db_index=True)

    class Meta:
        verbose_name = _("task result")
        verbose_name_plural = _("task results")
        ordering = ("-date_done",)

    def __str__(self) -> str:
        return f"{self.task_name or 'task'} {self.task_id}: {self.status}"

    def as_dict(self) -> dict[str, Any]:
        """Return Celery's result meta, as far as JSON reads it."""
        found: dict[str, Any] = json.loads(bytes(self.body)) if self.body else {}
        return found


class Chord(models.Model):
    """A chord in progress."""

    group_id = models.CharField(max_length=255, primary_key=True)
    size = models.IntegerField()
    follow_ups = models.BinaryField()
    sent = models.BooleanField(default=False)
    expires_at = models.FloatField(default=0.0, db_index=True)

    class Meta:
        verbose_name = _("chord")

    def __str__(self) -> str:
        return str(self.group_id)


class ChordPart(models.Model):
    """A finished member of a chord."""

    chord = models.ForeignKey(Chord, models.CASCADE, related_name="parts")
    index = models.IntegerField()
    task_id = models.CharField(max_length=255)
    status = models.CharField(max_length=50)
    body = models.BinaryField(null=True)
    attempt = models.BigIntegerField(default=0)
    handed_out = models.IntegerField(default=1)
    expires_at = models.FloatField(default=0.0)

    class Meta:
        verbose_name = _("part of a chord")
        constraints = [
            models.UniqueConstraint(fields=["chord", "index"], name="celeriac_one_part_a_slot")
        ]

    def __str__(self) -> str:
        return f"{self.chord_id}[{self.index}]"


class ChordGrowth(models.Model):
    """Slots that a chord got while it was open, under the id of whoever asked for them."""

    chord = models.ForeignKey(Chord, models.CASCADE, related_name="growths")
    once = models.CharField(max_length=255)
    index = models.IntegerField()

    class Meta:
        verbose_name = _("growth of a chord")
        constraints = [
            models.UniqueConstraint(fields=["chord", "once"], name="celeriac_one_growth_an_id")
        ]

    def __str__(self) -> str:
        return f"{self.chord_id}[{self.index}] for {self.once}"
