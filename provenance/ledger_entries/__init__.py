"""What is in a list of runs: its entries, which of them count, and what they say of each run."""
