"""From records to leaderboard, comparisons and curves, and their formats. Loads no torch."""
