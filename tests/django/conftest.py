"""A Django project in a folder of its own, with real processes; and Django in this process.

A process has one Django: here its routers lead to SQLite or to PostgreSQL.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from tests.support.postgres import PostgreSQL
from tests.support.project import Process

SOURCE = Path(__file__).parent / "site"


class Site:
    """A copy of the project: its commands, its processes.

    :param folder: where.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("__pycache__"))
        self.environ: dict[str, str] = {"PYTHONDONTWRITEBYTECODE": "1"}
        self._processes: list[Process] = []

    def settings(self, **values: Any) -> None:
        """Change settings of Django's."""
        self.environ["TEST_SETTINGS"] = json.dumps(values)

    @property
    def env(self) -> dict[str, str]:
        """The environment of its processes."""
        return {**os.environ, **self.environ}

    def run(self, *command: str, ok: bool = True, timeout: float = 60) -> str:
        """Run a command of Python's in the folder; return what it printed."""
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert (done.returncode == 0) is ok, done.stdout + done.stderr
        return done.stdout if ok else done.stdout + done.stderr

    def manage(self, *words: str, ok: bool = True) -> str:
        """Run `manage.py`."""
        return self.run("manage.py", *words, ok=ok)

    def shell(self, source: str) -> Any:
        """Run a piece of a program in which Django is set up; return the JSON that it prints."""
        head = "import json, os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n"
        head += "import django\ndjango.setup()\n"
        printed = self.run("-c", head + textwrap.dedent(source))
        return json.loads(printed) if printed.strip() else None

    def start(self, *command: str) -> Process:
        """Start a command of Python's."""
        log = self.folder / f"process-{len(self._processes)}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.folder,
                env={**self.env, "PYTHONUNBUFFERED": "1"},
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._processes.append(Process(popen, log))
        return self._processes[-1]

    def worker(self, *options: str) -> Process:
        """Start a worker by the `celeriac` command, and wait until it takes tasks."""
        return self.start(
            "-m", "celeriac", "-A", "shop", "worker", "-l", "INFO", *options
        ).wait_ready()

    def close(self) -> None:
        """Kill what still runs."""
        for process in self._processes:
            process.kill_group()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrate a database once; each site has a copy."""
    made = Site(tmp_path_factory.mktemp("migrated") / "site")
    made.manage("migrate", "-v0")
    return made.folder / "db.sqlite3"


@pytest.fixture
def empty_site(tmp_path: Path) -> Iterator[Site]:
    """Make the project, without a database."""
    made = Site(tmp_path / "site")
    yield made
    made.close()


@pytest.fixture
def site(empty_site: Site, migrated: Path) -> Site:
    """Make the project, its database migrated."""
    shutil.copy(migrated, empty_site.folder / "db.sqlite3")
    return empty_site


class Router:
    """Leads everything to one database, which the tests change."""

    using = "default"

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return Router.using

    db_for_write = db_for_read

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool:
        return True


@pytest.fixture(scope="module")
def django_here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Set Django up in this process, once."""
    folder = tmp_path_factory.mktemp("django")
    if not settings.configured:
        settings.configure(
            INSTALLED_APPS=["celeriac.contrib.django"],
            DATABASES={
                "default": {
                    "ENGINE": "django.db.backends.sqlite3",
                    "NAME": folder / "db.sqlite3",
                    "OPTIONS": {
                        "transaction_mode": "IMMEDIATE",
                        "timeout": 20,
                        # Nothing is to outlive the machine, whose disk is slow to say so.
                        "init_command": "PRAGMA synchronous=OFF",
                    },
                    "CONN_MAX_AGE": 600,
                }
            },
            DATABASE_ROUTERS=[Router()],
            CACHES={
                "default": {
                    "BACKEND": "django.core.cache.backends.db.DatabaseCache",
                    "LOCATION": "cache",
                    "OPTIONS": {"MAX_ENTRIES": 100_000},
                },
            },
            USE_TZ=True,
        )
    import django

    django.setup()
    return folder


def _migrated(alias: str) -> None:
    from django.core.management import call_command

    call_command("migrate", database=alias, verbosity=0)
    call_command("createcachetable", database=alias)


@pytest.fixture(scope="module")
def sqlite(django_here: Path) -> Iterator[str]:
    """Migrate the SQLite file; give its alias."""
    from django.db import connections

    _migrated("default")
    yield "default"
    connections.close_all()


@pytest.fixture(scope="module")
def postgresql(django_here: Path, postgres: PostgreSQL) -> Iterator[str]:
    """Migrate a PostgreSQL database, reached through a pool; give its alias."""
    from django.db import connections

    here = {**postgres.database(), "OPTIONS": {"pool": {"min_size": 1, "max_size": 4}}}
    complete = connections.configure_settings({"default": {}, "postgres": here})
    connections.settings["postgres"] = complete["postgres"]
    Router.using = "postgres"
    _migrated("postgres")
    Router.using = "default"
    yield "postgres"
    connections["postgres"].close()
    connections["postgres"].close_pool()
    del connections.settings["postgres"], connections["postgres"]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have everything in one database or the other; give its alias."""
    alias: str = request.getfixturevalue(request.param)
    monkeypatch.setattr(Router, "using", alias)
    return alias


@pytest.fixture
def empty(database: str) -> Iterator[None]:
    """End with empty tables."""
    from django.apps import apps
    from django.core.cache import cache
    from django.db import connections

    yield
    for model in apps.get_app_config("celeriac").get_models():
        model.objects.all().delete()
    cache.clear()
    connections.close_all()


@pytest.fixture(name="settings")
def django_settings(django_here: Path) -> Iterator[Any]:
    """Give settings that are put back at the end."""
    from django.test import override_settings

    class Settings:
        def __setattr__(self, name: str, value: Any) -> None:
            one = override_settings(**{name: value})
            one.enable()
            undo.append(one)

    undo: list[Any] = []
    yield Settings()
    for one in reversed(undo):
        one.disable()
