"""What a converted file says of itself, and the one check of it."""
