"""The configuration file: one YAML file with data, roles and settings, and a template for it.

Reads, checks and writes text; what a setting means belongs to the estimator.
"""
