"""An app whose tasks are in jobs.py."""
