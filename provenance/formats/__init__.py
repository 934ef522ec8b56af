"""Bytes on disk: canonical JSON, digests, the trail, metrics, atomic writing."""
