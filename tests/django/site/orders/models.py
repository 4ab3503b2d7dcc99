"""Orders."""

from django.db import models


class Order(models.Model):
    """What somebody bought."""

    name = models.CharField(max_length=100)
    state = models.CharField(max_length=20, default="new")
