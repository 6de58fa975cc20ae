"""Backbones: one family, one file."""
