"""One reader a family of data sets."""
