"""Django: settings, installed apps, connections, transactions; results and schedules in the ORM.

Found by itself where DJANGO_SETTINGS_MODULE is set.  As an installed app, "celeriac.contrib.django",
it adds the tables of results and schedules with their admin, and `manage.py celeriac`.

Owns: nothing; see fixup, task, arguments, connections.  May import: everything.
"""
