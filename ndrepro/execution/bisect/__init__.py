"""Which package, and which release of it, changed a result."""
