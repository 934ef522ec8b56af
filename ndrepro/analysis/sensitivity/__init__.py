"""What moves a result: library versions, seeds, threads, hardware."""
