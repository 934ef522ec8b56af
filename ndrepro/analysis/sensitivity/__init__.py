"""Sensitivity of results: library versions, seeds, threads, hardware."""
