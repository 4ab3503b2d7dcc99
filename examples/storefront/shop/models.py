"""What the shop keeps."""

from __future__ import annotations

from django.db import models


class Product(models.Model):
    """Something to buy."""

    name = models.CharField(max_length=80)
    price = models.DecimalField(max_digits=7, decimal_places=2)


class Customer(models.Model):
    """Somebody who wants to be told."""

    email = models.EmailField(unique=True)


class Notice(models.Model):
    """What customers are told."""

    class State(models.TextChoices):
        """How far it is."""

        KEPT = "kept"
        """Redis was away: `send_kept_notices` will send it."""
        SENT = "sent"

    text = models.CharField(max_length=200)
    state = models.CharField(max_length=4, choices=State)
    customers = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-created_at",)
