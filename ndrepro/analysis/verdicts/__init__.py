"""What a repetition shows: two runs compared, claim by claim, and the verdict."""
