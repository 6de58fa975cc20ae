"""Figures of a run, and the page that contains them: one file that opens offline."""
