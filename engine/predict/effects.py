"""Long-run effects, and their uncertainty given one store's data."""

from __future__ import annotations

import torch
from torch import Tensor

from causalmmm.engine.nn.decoder import ResponseDecoder
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.nn.posterior import Inference, causal_probability
from causalmmm.engine.ops.scan import State, roll

_NORMAL_95 = 1.6448536269514722  # 95 % quantile of the standard normal distribution
_MAX_PERSISTENCE = 0.95  # bound on the sum of absolute autoregressive weights
SHAPE_STD = 0.3  # of a store's log slope and log half-saturation around the shared ones
_MAX_SHAPE_STD = 1.0  # of a log effect, from uncertainty of the curve's shape
MIN_AMOUNT = 1e-3  # in units of a series' scale


def expected_weights(model: CausalModel, inferred: Inference) -> Tensor:
    """[B, N, D, N]: posterior mean effect of a unit of every response on every receiver."""
    posterior = inferred.posterior
    mean, variance = posterior.effect_mean, (2 * posterior.effect_log_sd).exp()
    log_effect = mean + 0.5 * variance
    if not model.config.store_effects:
        log_effect = torch.zeros_like(mean)
    return model.decoder.weights(causal_probability(posterior.edges), log_effect)


def one_step_errors(model: CausalModel, inferred: Inference) -> Tensor:
    """[B, N, T - 1]: errors of one-step predictions under expected effects, scaled, from the second
    row of each window on."""
    return model.one_step_errors(inferred, expected_weights(model, inferred))


def long_run_multiplier(ar_weights: Tensor) -> Tensor:
    """Long-run multiplier [...] of autoregressive distributed lags: 1 / (1 - sum of weights).

    The eventual effect of a permanent impulse of one per step on a receiver with autoregressive
    weights [..., P].
    """
    return 1 / (1 - cap_persistence(ar_weights).sum(-1))


def ar_filter(inputs: Tensor, ar_weights: Tensor) -> Tensor:
    """Inputs [B, K, T] of a receiver after its autoregression, y(t) = x(t) + sum_p w_p y(t - p).

    ``ar_weights`` [B, P], lag 1 first. Before the window every input is at its mean, in steady
    state.
    """
    weights = cap_persistence(ar_weights).mT.unsqueeze(-1)  # [P, B, 1]

    def step(state: State, now: State) -> tuple[State, State]:
        (past,), (x,) = state, now
        y = x + (weights * past).sum(0)
        return (torch.cat([y.unsqueeze(0), past[:-1]]),), (y,)

    steady = inputs.mean(-1) * long_run_multiplier(ar_weights).unsqueeze(-1)  # [B, K]
    (outputs,) = roll(step, (steady.expand(len(weights), -1, -1),), (inputs.permute(2, 0, 1),))
    return outputs.permute(1, 2, 0)


def effect_interval(
    model: CausalModel, mean: Tensor, log_sd: Tensor, shape_sd: Tensor, shared: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, lower and upper bound (central 90 %) of a store's effects.

    ``shared`` are the shared effects; a store's log deviation from them has posterior mean ``mean``
    and log standard deviation ``log_sd``. ``shape_sd`` is :func:`shape_deviation`, which widens the
    interval only.
    """
    sd = log_sd.exp()
    if not model.config.store_effects:
        mean, sd = torch.zeros_like(mean), torch.zeros_like(sd)
    half_width = _NORMAL_95 * (sd.square() + shape_sd.square()).sqrt()
    bounds = [shared * (mean + sign * half_width).exp() for sign in (-1, 1)]
    effect = shared * (mean + 0.5 * sd.square()).exp()
    return effect, torch.minimum(*bounds), torch.maximum(*bounds)


def shape_deviation(
    decoder: ResponseDecoder, context: Tensor, level: Tensor, amounts: Tensor
) -> Tensor:
    """[B, N, G]: standard deviation of the log response to scaled ``amounts`` [B, N, G] that comes
    from uncertainty of the curve's shape.

    A window identifies the slope of the curve at the sender's ``level`` [B, N, 1], around which it
    varies. The height of the curve above zero depends on its shape, which stores share only
    approximately. With slope k, half-saturation h, s = hill(g) and the product
    effect * hill'(level) held fixed, the log response at g changes by

        (1 - s) u - 1 - (1 - 2 s0) u0   with log k,   k (s - 2 s0)   with log h,

    where u = k log(g / h), and s0 and u0 are those of the level.
    """
    if not decoder.config.saturation:
        return torch.zeros_like(amounts)
    slope, half = decoder.curve(context)
    u, u0 = (slope * (x.abs().clamp_min(MIN_AMOUNT) / half).log() for x in (amounts, level))
    s, s0 = u.sigmoid(), u0.sigmoid()
    by_slope = (1 - s) * u - 1 - (1 - 2 * s0) * u0
    by_half = slope * (s - 2 * s0)
    std = SHAPE_STD * (by_slope.square() + by_half.square()).sqrt()
    return std.clamp_max(_MAX_SHAPE_STD)


def cap_persistence(ar_weights: Tensor) -> Tensor:
    """Autoregressive weights [..., P], scaled down where effects would (nearly) never die out."""
    size = ar_weights.abs().sum(-1, keepdim=True).clamp_min(_MAX_PERSISTENCE)
    return ar_weights * (_MAX_PERSISTENCE / size)
