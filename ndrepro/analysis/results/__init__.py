"""Verified manifests to rows of results, and the verdicts that reviewers signed on them."""
