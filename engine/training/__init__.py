"""How a model is fitted: loop, schedule, validation, prototype refits, checkpoints, CUDA graphs.

Nothing here forecasts, and ``predict`` imports nothing from here.
"""
