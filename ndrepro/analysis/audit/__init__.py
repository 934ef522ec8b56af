"""What papers claim, recomputed from their published data."""
