"""Volumes: where they come from, how they are kept, and the views that are made of them."""
