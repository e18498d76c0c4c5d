"""What the analyzer looks at: module trees as flat records, and the source of forwards."""
