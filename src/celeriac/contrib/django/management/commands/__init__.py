"""Commands of `manage.py`: celeriac."""
