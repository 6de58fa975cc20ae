"""Published weights: found, checked, loaded into a backbone, and written for other software."""
