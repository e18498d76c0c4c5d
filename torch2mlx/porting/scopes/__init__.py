"""What the names of a source stand for, and what its statements read and write."""
