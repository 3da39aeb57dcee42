"""What users have beside this package, on the same draws: PyMC-Marketing, Meridian, plain methods.

Each peer runs in an environment of its own, so nothing that it imports may import ``causalmmm``.
"""
