"""Reading: modules, state dicts, files and directories become borrowed tensors."""
