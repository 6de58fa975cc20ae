"""Planning of a run: names and settings become requests, checked before any volume is read."""
