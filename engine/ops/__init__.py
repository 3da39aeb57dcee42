"""Linear algebra and recurrences, each in an eager form and a form that exports to ONNX.

Every export switch lives in ``export_switch``. Nothing here knows stores, edges or windows.
"""
