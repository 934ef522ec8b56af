"""What is signed, by whom, and whether it holds."""
