"""Kills, full disks, stopped processes: every accepted task ends, none is left."""
