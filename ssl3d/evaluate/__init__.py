"""Judging an encoder: features, protocols, metrics, statistics."""
