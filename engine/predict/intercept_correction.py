"""Intercept correction: forecasts start from a store's recent level rather than its fitted one."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.batches.masks import has_full_lags
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.nn.posterior import Inference
from causalmmm.engine.predict.effects import long_run_multiplier, one_step_errors

_HALF_LIFE = 14.0  # of the weight of past errors, in steps
_EPSILON = 1e-12


@torch.no_grad()
def intercept_correction(model: CausalModel, batch: Batch, inferred: Inference) -> Inference:
    """The inference with intercepts moved to the recent level of each series.

    Calendar and effects are fitted to a whole window. If either changed within it, recent one-step
    errors have a nonzero mean. That mean, shrunk towards zero by what noise accounts for (positive
    part of James & Stein, 1961), is carried on as a shift of the level (intercept correction:
    Clements & Hendry, 1996). Series whose errors average out do not move.
    """
    counted = inferred.active[..., 1:] * has_full_lags(batch.context_mask, 1).unsqueeze(1)
    error = one_step_errors(model, inferred) * counted
    shift = _shrunk_recent_mean(error, counted) * long_run_multiplier(inferred.ar_weights)
    rows = inferred.active * batch.valid.unsqueeze(1)
    intercept, others = inferred.coefficients[..., :1], inferred.coefficients[..., 1:]
    return replace(
        inferred,
        coefficients=torch.cat([intercept + shift.unsqueeze(-1), others], dim=-1),
        residual=inferred.residual - shift.unsqueeze(-1) * rows,
    )


def _shrunk_recent_mean(error: Tensor, counted: Tensor) -> Tensor:
    """[B, N]: exponentially weighted mean of errors [B, N, T], shrunk towards zero by its sampling
    variance. ``error`` is zero where ``counted`` is zero."""
    age = torch.arange(error.shape[-1], dtype=error.dtype, device=error.device).flip(0)
    weight = counted * 0.5 ** (age / _HALF_LIFE)
    total = weight.sum(-1).clamp_min(_EPSILON)
    mean = (error * weight).sum(-1) / total
    variance = error.square().sum(-1) / counted.sum(-1).clamp_min(1.0)
    sampling_variance = variance * weight.square().sum(-1) / total.square()
    return mean * (1 - sampling_variance / mean.square().clamp_min(_EPSILON)).clamp_min(0.0)
