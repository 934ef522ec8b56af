"""Many runs: plan, status, estimates, launchers, hyper-parameter search."""
