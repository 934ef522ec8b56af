"""Guidelines of reproducibility and reviewers' forms, answered with evidence."""
