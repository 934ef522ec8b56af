"""From verified runs to what they mean: verdicts, where two runs part and why. Files and manifests only, no torch."""
