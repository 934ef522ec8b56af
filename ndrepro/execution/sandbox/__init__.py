"""Confines a process that runs somebody else's code: no network, nothing of the user's to read, one folder to write."""
