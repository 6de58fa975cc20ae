"""Intervals, tests and bootstraps. Loads neither torch nor scikit-learn."""
