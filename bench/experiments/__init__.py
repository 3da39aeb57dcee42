"""Experiments on simulated panels with known truth, one module per table of the README.

No method of `causalmmm` and no metric lives here; what is compared with is in `baselines`.
"""
