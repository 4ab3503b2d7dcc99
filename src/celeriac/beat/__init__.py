"""Celery's module of periodic tasks: the scheduler, its entries, and the services that run it.

Owns: nothing; re-exports.  May import: kernel, ports, client, beat.
"""
