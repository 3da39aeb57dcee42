"""From a user's table to a checked ``Panel`` or ``Plan``: files, roles, dates, numbers, findings.

Nothing here knows a model; the arrays that the engine takes are the panel's ``data``.
"""
