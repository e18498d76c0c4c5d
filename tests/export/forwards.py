"""A module whose forward is a function of a test."""

import torch


class Forward(torch.nn.Module):
    """Runs one function of an array."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)
