"""Windows of a panel as batches of tensors."""
