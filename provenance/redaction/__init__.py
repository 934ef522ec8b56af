"""Secrets, found and removed before anything is written."""
