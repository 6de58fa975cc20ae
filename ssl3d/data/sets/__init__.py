"""The data sets included in ssl3d, one per file."""
