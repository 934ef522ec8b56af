"""What a grid of runs is: its schema and its search space."""
