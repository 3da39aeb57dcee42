"""The model: encoder, decoder, objective, training and forecasting, on plain tensors."""
