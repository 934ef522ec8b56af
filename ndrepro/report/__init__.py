"""Verified scores → figures, tables, one HTML folder that opens from disk. Nothing here trains, signs or verifies."""
