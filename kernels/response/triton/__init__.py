"""Responses later by their delays, in Triton: kernels, and their launches."""
