"""Time stamps of an authority, after RFC 3161."""
