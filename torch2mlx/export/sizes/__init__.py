"""Numbers of emitted files as expressions of what the model was made with."""
