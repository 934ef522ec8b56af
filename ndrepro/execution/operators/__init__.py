"""Has an environment compute its operations on fixed inputs, in a process of its own."""
