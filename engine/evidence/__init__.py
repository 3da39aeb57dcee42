"""Closed-form evidence for edges: window statistics, response regressions, ARD regressions.

Pure functions of tensors without gradients. No parameters live here; those are in ``nn``.
"""
