"""What one run is: its settings, names, limits and schema."""
