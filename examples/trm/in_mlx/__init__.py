"""TinyRecursiveModels in PyTorch, written for reading."""
