"""Costs around the model: loading panels, scoring data sets, serving, start-up.

Models are fitted here only to have something to load; how good they are is for `experiments`.
"""
