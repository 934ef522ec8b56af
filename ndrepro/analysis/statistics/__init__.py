"""Numbers with their uncertainty: intervals, tests, power, variance components."""
