"""Runs any command and records it: its streams, its processes, what it read and wrote, and how it ended."""
