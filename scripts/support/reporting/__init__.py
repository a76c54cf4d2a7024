"""Reporting: what a person and a program read of a run."""
