"""The source of a network of the user's own, kept with each run of it."""
