"""The intermediate form: nodes, what is known of them, how one is printed."""
