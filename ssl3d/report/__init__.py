"""Pictures of a run, and the page that holds them all: one file that opens offline."""
