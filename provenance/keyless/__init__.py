"""Signatures by an identity instead of a key, through Sigstore: made with its services, verified offline."""
