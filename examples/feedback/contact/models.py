"""Which mails have been sent."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.db.models import Q
from django.utils import timezone


class Mail(models.Model):
    """One mail, known by the key that its form was given.

    A task may run twice: the visitor pressed the button twice, or a worker died after it sent the
    mail and before it could say so.  Whoever wants to send claims the row first.
    """

    key = models.UUIDField(primary_key=True)
    claimed_until = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)

    @classmethod
    def claim(cls, key: str, seconds: float) -> bool:
        """Return whether the caller may send it now: it is not sent, and nobody else is at it.

        :param seconds: how long the claim holds; the claim of a worker that died ends by itself.
        """
        now = timezone.now()
        cls.objects.get_or_create(key=key)
        free = Q(claimed_until=None) | Q(claimed_until__lt=now)
        # One statement: of two workers that come together one changes the row, the other none.
        mine = cls.objects.filter(free, key=key, sent_at=None)
        return mine.update(claimed_until=now + timedelta(seconds=seconds)) == 1

    @classmethod
    def is_sent(cls, key: str) -> bool:
        """Return whether it went out."""
        return cls.objects.filter(key=key).exclude(sent_at=None).exists()

    @classmethod
    def sent(cls, key: str) -> None:
        """Note that it went out."""
        cls.objects.filter(key=key).update(sent_at=timezone.now(), claimed_until=None)

    @classmethod
    def release(cls, key: str) -> None:
        """Give the claim back: the mail could not be sent."""
        cls.objects.filter(key=key, sent_at=None).update(claimed_until=None)
