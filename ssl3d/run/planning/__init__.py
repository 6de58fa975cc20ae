"""What a run is to make: names and settings into requests, checked before any volume is read."""
