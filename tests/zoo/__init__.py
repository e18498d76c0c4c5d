"""Real architectures of transformers at toy size, translated and compared."""
