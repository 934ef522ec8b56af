"""The cells of the version matrix, and what this machine has."""
