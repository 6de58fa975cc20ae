"""Evaluation of an encoder: features, protocols, metrics, statistics."""
