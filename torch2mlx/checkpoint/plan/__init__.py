"""The weight rules: layouts, actions on tensors, folds, and the table of layers."""
