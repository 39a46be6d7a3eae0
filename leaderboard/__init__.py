"""Judging: run a policy over unseen days, record them, score the records."""
