"""A classifier of digits in PyTorch."""

from digits.model import Classifier

__all__ = ["Classifier"]
