"""Two runs side by side: where they diverge, and why."""
