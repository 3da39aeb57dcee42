"""Spend beyond everything that a store has seen: there the shape of a curve decides, which a window
does not tell.

Nothing here changes a response within what was seen, by a bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import hardtanh, logsigmoid

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.ops.export_switch import exporting
from causalmmm.engine.predict.effects import MIN_AMOUNT, SHAPE_STD
from causalmmm.engine.predict.future import Future
from causalmmm.engine.predict.noise import Noise
from causalmmm.kernels import adstock_hill

_MAX_LOG_GAIN = 1.0  # of a drawn curve against the shared one, whose slope where spend is it keeps


@dataclass(frozen=True)
class Beyond:
    """In every future, a curve of its own for what lies beyond the window; [N, D or 1, B draws].

    most   largest stock of carry-over in the window; infinite for series without a plan.
    slope, slope_log_half  of the drawn curve.
    gain   its height against the shared curve's: both are as steep at the usual spend.
    jump   drawn less shared curve at ``most``.
    """

    most: Tensor
    slope: Tensor
    slope_log_half: Tensor
    gain: Tensor
    jump: Tensor

    def added(self, stock: Tensor, response: Tensor) -> Tensor:
        """What the drawn curves add to the shared ``response`` to a stock, [N, D, B draws] each:
        nothing up to ``most``, from where on they climb as they do."""
        own = self.gain * _hill(stock, self.slope, self.slope_log_half)
        return torch.where(stock > self.most, own - response - self.jump, 0.0)


def beyond_history(
    model: CausalModel,
    batch: Batch,
    future: Future,
    noise: Noise,
    per_draw: Callable[[Tensor], Tensor],
    per_store: Callable[[Tensor], Tensor],
) -> Beyond | None:
    """Curves of plans that lie beyond their window; None where none does.

    Log slope and log half-saturation deviate from the shared ones as they do in the intervals of
    effects and curves (``effects.shape_deviation``), and so that the slope at the sender's usual
    spend, which a window tells, stays. The numbers behind them are those of ``noise`` that no edge
    uses. ``per_draw`` lays [B, ...] out as [..., B draws], ``per_store`` [..., draws].
    """
    if not model.config.saturation:
        return None
    size = batch.x.abs()
    largest = size.amax(-1)  # [B, N]
    planned = torch.where(future.given.isnan(), 0.0, future.given).amax(-1)
    if not exporting() and not bool((planned > largest).any()):
        return None
    decoder = model.decoder
    # a curve of slope one that is half saturated at the largest value gives stocks back exactly
    middle = largest.clamp_min(MIN_AMOUNT).unsqueeze(-1)
    one = torch.ones_like(middle).unsqueeze(2)
    level = batch.level.abs().expand(-1, -1, len(model.config.decays))
    felt, _ = adstock_hill(
        size.unsqueeze(2), decoder.decay.unsqueeze(-1), one, middle.unsqueeze(2), level
    )
    share = felt.amax(-1)  # [B, N, D], at most a half
    most = middle * share / (1 - share)
    most = torch.where((planned > 0).unsqueeze(-1), most, torch.inf)
    slope, half = (part[..., :1] for part in decoder.curve(future.context))  # [B, N, 1]
    slope, log_half = per_draw(slope), per_draw(half.log())  # [N, 1, B draws]
    by_slope, by_half = (
        SHAPE_STD * per_store(noise.mirrored(z.diagonal().mT)).unsqueeze(1)
        for z in (noise.gates, noise.effects)
    )
    own_slope, own_log_half = slope * by_slope.exp(), log_half + by_half
    usual = per_draw(batch.level.abs().clamp_min(MIN_AMOUNT)).log()
    steep = _log_steepness(slope, usual - log_half)
    gain = steep - _log_steepness(own_slope, usual - own_log_half)
    gain = hardtanh(gain, -_MAX_LOG_GAIN, _MAX_LOG_GAIN).exp()
    most = per_draw(most)
    jump = gain * _hill(most, own_slope, own_slope * own_log_half)
    jump = jump - _hill(most, slope, slope * log_half)
    return Beyond(most, own_slope, own_slope * own_log_half, gain, jump)


def _log_steepness(slope: Tensor, distance: Tensor) -> Tensor:
    """Logarithm of a curve's climb per unit of log stock, at a ``distance`` in log stock from half
    saturation."""
    u = slope * distance
    return slope.log() + logsigmoid(u) + logsigmoid(-u)


def _hill(stock: Tensor, slope: Tensor, slope_log_half: Tensor) -> Tensor:
    size = stock.abs().clamp_min(torch.finfo(stock.dtype).tiny)  # as in ``rollout``, computed once
    return torch.sigmoid(slope * size.log() - slope_log_half)
