"""The operators of the model: each has a float64-capable reference and one public function."""

from __future__ import annotations

from causalmmm.kernels.response import adstock_hill

__all__ = ["adstock_hill"]
