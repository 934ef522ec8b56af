"""One attempt, from its start to its signed end."""
