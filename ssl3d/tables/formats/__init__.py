"""The leaderboard as text: Markdown, LaTeX, a terminal, a picture. Each calls synthetic data synthetic."""
