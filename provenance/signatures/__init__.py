"""Public keys: which may sign, and whether one signed a message."""
