"""Calls, statements and classes rewritten, a family of rules a file."""
