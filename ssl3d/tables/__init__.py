"""Leaderboard, comparisons and curves from records, and their formats. Loads no torch."""
