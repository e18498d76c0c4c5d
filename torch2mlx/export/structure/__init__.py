"""From the lowered program to classes: attributes, methods, loops, checks."""
