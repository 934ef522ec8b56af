"""Fixtures of the attacks: runs that were really recorded, for which nothing was trained."""

from small_runs import signed_run, small_run

__all__ = ["signed_run", "small_run"]
