"""The configuration file: one YAML with data, roles and settings, and the template of it.

Reads and writes text; what a setting means belongs to the estimator.
"""
