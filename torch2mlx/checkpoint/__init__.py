"""The weight pipeline: sources are read, a plan is made, files are written."""
