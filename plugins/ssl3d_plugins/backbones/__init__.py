"""Backbones, one family per file."""
