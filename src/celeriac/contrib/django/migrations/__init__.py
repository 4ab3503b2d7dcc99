"""Migrations of the tables of results and schedules."""
