"""The app, named by its class in INSTALLED_APPS."""

from django.apps import AppConfig


class OrdersConfig(AppConfig):
    """Reads the database when it is ready, as too many apps do: a connection before any fork."""

    name = "orders"

    def ready(self):
        """Leave a connection open."""
        from django.db import connection

        connection.ensure_connection()
