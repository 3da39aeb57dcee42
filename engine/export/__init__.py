"""From a fitted model to an ONNX file of standard operators.

Needs the optional extra ``onnx``, so nothing else in the engine imports from here.
"""
