"""Precision, determinism, random streams, fingerprints."""
