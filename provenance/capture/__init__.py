"""What this machine, environment and source are."""
