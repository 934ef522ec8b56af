"""Imports runs that were made elsewhere: archives are unpacked within bounds, runs are verified."""
