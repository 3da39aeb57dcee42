"""Experiments on simulated panels with known truth, one file per table of the README."""
