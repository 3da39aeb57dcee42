"""Results of a fitted model as tensors: graphs, effects, curves, contributions, forecasts.

Nothing here trains; names, dates and user units are the caller's business.
"""
