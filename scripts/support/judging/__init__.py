"""Judging: what a guest's words mean, which guests the suites have, and every other test."""
