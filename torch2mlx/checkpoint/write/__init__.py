"""Writing: safetensors files and directories that are absent, old or complete."""
