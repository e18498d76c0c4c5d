"""What an expression of a source may be: types by data flow."""
