"""Answers from an exported model, without torch: onnxruntime and numpy.

``OnnxModel(path)`` has the questions of ``CausalMMM`` and gives the same frames. Reading tables and
making frames takes pandas, which is imported when the first question is asked.
"""

from __future__ import annotations

from causalmmm.extras import needing

with needing("causalmmm.runtime"):
    from causalmmm.runtime.model import OnnxModel

__all__ = ["OnnxModel"]
