"""Slurm: requests, tasks, the launcher."""
