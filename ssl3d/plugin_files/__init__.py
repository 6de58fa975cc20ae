"""Plugin files as text: their classes, what they import, and imports from their own folder."""
