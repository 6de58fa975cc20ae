"""Verification of a run against its own files, and reproduction of its results."""
