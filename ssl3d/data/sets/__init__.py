"""The data sets that come with ssl3d, one per file."""
