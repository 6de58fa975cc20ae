"""Records of artifacts, their schemas, atomic files, and the run folder. Loads no torch."""
