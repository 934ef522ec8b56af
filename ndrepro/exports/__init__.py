"""Recorded runs in the formats of other tools, and archives of runs. Only runs that verify are written."""
