"""Execution of a plan: what to compute, where, and in which order."""
