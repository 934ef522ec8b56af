"""From verified runs to verdicts, causes and intervals. Reads files and manifests only, no torch."""
