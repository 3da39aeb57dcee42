"""What a fitted model says: graphs, effects, curves, contributions, forecasts.

Nothing trains here.
"""
