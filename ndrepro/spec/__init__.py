"""What both halves agree on: names, experiments, folders, files that cross the door. Standard library only."""
