"""libFuzzer targets, one for each reader, and their seeds."""
