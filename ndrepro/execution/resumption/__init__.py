"""From which state a run may be resumed: checkpoints that were signed, or bound by a signed record as they appeared."""
