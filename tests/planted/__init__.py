"""Plugins with one fault each, and sound ones to compare. No test is in here."""
