"""The operators of the model: each has a float64-capable reference and one public function."""

from __future__ import annotations

from causalmmm.kernels.edge import EdgeMean, EdgeSample, edge_mean, edge_noise, edge_sample
from causalmmm.kernels.response import adstock_hill

__all__ = ["EdgeMean", "EdgeSample", "adstock_hill", "edge_mean", "edge_noise", "edge_sample"]
