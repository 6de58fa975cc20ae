"""Gradients of one effective batch, and the training loop around it."""
