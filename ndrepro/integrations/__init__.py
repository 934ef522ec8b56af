"""Callbacks by which other training libraries log into a run of ``ndrepro.record``; each needs an extra."""
