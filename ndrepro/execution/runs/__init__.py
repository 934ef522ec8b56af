"""One run: its child process, its progress, its account, its import."""
