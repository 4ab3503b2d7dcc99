"""What an app does differently in a Django project; put in place where DJANGO_SETTINGS_MODULE is set.

Owns: DjangoFixup.  Thread rule: any thread.  May import: everything.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import django

from celeriac.client import signals
from celeriac.contrib.django import arguments, connections
from celeriac.contrib.django.task import DjangoTask
from celeriac.kernel.errors import ImproperlyConfigured
from celeriac.ports.registry import scheme_of

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

logger = logging.getLogger("celeriac.django")


class DjangoFixup:
    """One app's ties to Django.

    A process that only sends pays for nothing here but its tasks' class.  A worker closes
    connections between tasks; every forked child forgets those of its parent.
    """

    task_class = DjangoTask

    def __init__(self, app: Celeriac) -> None:
        self.app = app
        if "" not in sys.path and os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())  # where manage.py is, and the settings
        arguments.register()
        # Weak: the app holds this object, and nothing else has to outlive it.
        signals.import_modules.connect(self.set_up, sender=app)
        signals.worker_init.connect(self.worker_begins)
        signals.worker_shutdown.connect(self.worker_ends)
        app.on_after_fork.connect(self.forked)

    def set_up(self, **_: Any) -> None:
        """Set Django up before the program's modules are imported.

        :raises ImproperlyConfigured: a model is wrong, as `manage.py check` says.
        """
        from django.apps import apps
        from django.core import checks

        if not apps.ready:
            django.setup()
            wrong = [m for m in checks.run_checks(tags=["models"]) if m.is_serious()]
            if wrong:
                raise ImproperlyConfigured("\n".join(str(message) for message in wrong))
        conf = self.app.conf
        # The admin shows names and arguments; without them its list is one of ids.
        if conf.origin("result_extended") == "default" and self.app.keeps_results:
            if scheme_of(self.app.backend_url or "") == "django-db":
                conf.load({"result_extended": True}, "default")

    def worker_begins(self, sender: Any, **_: Any) -> None:
        """Have connections closed between tasks, and none open where the pool forks."""
        from django.conf import settings

        if sender.app is not self.app:
            return
        if settings.DEBUG:
            logger.warning(
                "DEBUG is True in Django's settings: every query is kept in memory until its task"
                " ends, and errors show values of settings; set it to False in production"
            )
        connections.close_all()
        signals.task_prerun.connect(self.task_begins)
        signals.task_postrun.connect(self.task_ends)

    def worker_ends(self, sender: Any = None, **_: Any) -> None:
        """Leave connections alone again."""
        if getattr(sender, "app", None) is self.app:
            signals.task_prerun.disconnect(self.task_begins)
            signals.task_postrun.disconnect(self.task_ends)

    def task_begins(self, task: Any = None, **_: Any) -> None:
        """Close what is too old or broken, as Django does before a request."""
        if task.app is self.app and not task.request.is_eager:
            connections.begins(task)

    def task_ends(self, task: Any = None, **_: Any) -> None:
        """Close what is too old or broken, as Django does after a request."""
        if task.app is self.app and not task.request.is_eager:
            connections.ends(task)

    def forked(self, **_: Any) -> None:
        """Forget the parent's connections."""
        connections.forget()
