"""From which state a run may be resumed: checkpoints that were signed, or bound in the ledger as they appeared."""
