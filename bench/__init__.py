"""Measurements: kernels, experiments with their baselines, the system around the model.

Run as modules from the checkout: ``python -m bench.experiments.structure --help``.
"""
