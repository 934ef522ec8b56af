"""The code that a process really executes: a private copy of its packages, its bytecode, and whatever else it loads."""
