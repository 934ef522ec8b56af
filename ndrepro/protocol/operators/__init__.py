"""What the measurement of operations and its reader agree on."""
