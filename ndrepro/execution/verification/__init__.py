"""What is verified of a run beyond its signature and digests, by its kind."""
