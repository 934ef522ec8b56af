"""Re-execution of recorded runs: whole, by epoch, by step; and the verdict, signed."""
