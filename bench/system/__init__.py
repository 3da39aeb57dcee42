"""Costs around the model: loading panels, scoring data sets, serving, start-up."""
