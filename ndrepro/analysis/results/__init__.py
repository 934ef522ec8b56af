"""Verified manifests to rows of results, replicates and verdicts."""
