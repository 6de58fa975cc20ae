"""Verify a run against its own files, and reproduce what it says."""
