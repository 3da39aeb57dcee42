"""The model: encoder, decoder, objective, training and forecasting, on plain tensors.

Rooms import in one direction: spec < ops < batches < evidence < nn < (training, predict) < export.
Nothing here imports from ``causalmmm`` except ``engine`` itself and ``kernels``.
"""
