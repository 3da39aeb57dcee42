"""Linear algebra and recurrences, which an export translates as a whole.

Every export switch lives in ``export_switch``. Nothing here knows stores, edges or windows.
"""
