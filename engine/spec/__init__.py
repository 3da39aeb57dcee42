"""Plain records that describe a model and its input: settings, calendar, series.

No torch here: the torch-free runtime imports these modules.
"""
