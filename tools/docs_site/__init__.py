"""What the documentation site generates from the code: commands, settings, schemas; recordings, pictures."""
