"""The leaderboard as Markdown, LaTeX, terminal output or picture. Each marks synthetic data as synthetic."""
