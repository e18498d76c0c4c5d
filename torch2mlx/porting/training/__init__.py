"""Training steps: backward and step become a function and its gradient."""
