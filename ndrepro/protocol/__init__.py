"""What the parent and the training process agree on; standard library only."""
