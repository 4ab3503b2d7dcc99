"""The app for INSTALLED_APPS: tables of results and schedules, their admin, `manage.py celeriac`.

Owns: CeleriacConfig.  May import: django.
"""

from __future__ import annotations

from django.apps import AppConfig


class CeleriacConfig(AppConfig):
    """Called `celeriac` in tables and permissions."""

    name = "celeriac.contrib.django"
    label = "celeriac"
    verbose_name = "Tasks"
    default_auto_field = "django.db.models.BigAutoField"
