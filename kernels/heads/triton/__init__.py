"""Heads of pairs of series in Triton: kernels, and their launches."""
