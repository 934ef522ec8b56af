"""Re-execution of a recorded program or script: from its manifest to a run of its own, in a sandbox."""
