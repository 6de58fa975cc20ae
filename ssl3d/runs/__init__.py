"""Runs: a plan of cells, what each left, and the tables made from them."""
