"""Protocols that evaluate a frozen or fine-tuned encoder, one per file."""
