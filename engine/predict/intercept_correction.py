"""Where forecasts start: the level that a store has kept of late beside what its model explains."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.batches.masks import has_full_lags
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.nn.posterior import Inference
from causalmmm.engine.predict.effects import long_run_multiplier, one_step_errors

_HALF_LIFE = 14.0  # of what a past error says about the level now, in steps
_NONE = 1e-12


@torch.no_grad()
def intercept_correction(model: CausalModel, batch: Batch, inferred: Inference) -> Inference:
    """The inference with intercepts moved to where each series has been of late.

    Calendar and effects describe a whole window. Where either changed within it, one-step errors
    keep a sign: their recent mean, as far as it exceeds what noise would give (the positive part of
    James & Stein, 1961), is carried on as a shift of the level (intercept correction: Clements &
    Hendry, 1996). Series whose errors average out do not move.
    """
    counted = inferred.active[..., 1:] * has_full_lags(batch.context_mask, 1).unsqueeze(1)
    error = one_step_errors(model, inferred) * counted
    shift = _beyond_noise(error, counted) * long_run_multiplier(inferred.ar_weights)
    rows = inferred.active * batch.valid.unsqueeze(1)
    intercept, others = inferred.coefficients[..., :1], inferred.coefficients[..., 1:]
    return replace(
        inferred,
        coefficients=torch.cat([intercept + shift.unsqueeze(-1), others], dim=-1),
        residual=inferred.residual - shift.unsqueeze(-1) * rows,
    )


def _beyond_noise(error: Tensor, counted: Tensor) -> Tensor:
    """[B, N]: recent means of errors [B, N, T], shrunk towards zero by what noise accounts for;
    errors are zero where ``counted`` is."""
    age = torch.arange(error.shape[-1], dtype=error.dtype, device=error.device).flip(0)
    weight = counted * 0.5 ** (age / _HALF_LIFE)
    total = weight.sum(-1).clamp_min(_NONE)
    mean = (error * weight).sum(-1) / total
    variance = error.square().sum(-1) / counted.sum(-1).clamp_min(1.0)
    noise = variance * weight.square().sum(-1) / total.square()
    return mean * (1 - noise / mean.square().clamp_min(_NONE)).clamp_min(0.0)
