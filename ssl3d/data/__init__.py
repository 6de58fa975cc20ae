"""Volumes: their sources, their storage, and the views made of them."""
