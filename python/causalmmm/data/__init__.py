"""From a user's table to a checked ``Panel`` or ``Plan``: files, roles, dates, numbers.

Nothing here knows a model or torch; the engine takes the arrays in ``Panel.data``.
"""
