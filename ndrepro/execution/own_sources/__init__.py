"""The source of a network of one's own, kept with each run of it."""
