"""What `scripts/run` and `scripts/test` stand on. Python standard library only."""
