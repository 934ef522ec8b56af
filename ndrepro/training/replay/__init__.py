"""Replays one recorded training step and records every operation; the second entry point."""
