"""Methods, one paper per file."""
