"""From a live model to torch.export's program, with all that a forward does beside it."""
