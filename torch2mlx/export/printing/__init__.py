"""The emitted file as text."""
