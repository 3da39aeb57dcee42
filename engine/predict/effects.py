"""What effects come to in the long run, and how sure of them one store's data can make us."""

from __future__ import annotations

import torch
from torch import Tensor

from causalmmm.engine.nn.decoder import ResponseDecoder, ar_prediction
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.nn.posterior import Inference, causal_probability
from causalmmm.engine.ops.scan import State, roll

_NORMAL_95 = 1.6448536269514722
_LASTING = 0.95  # at most this share of an effect is still there a step later
_SHAPE_SPREAD = 0.3  # of a store's log slope and log half-saturation around those of its series
_WIDEST = 1.0  # standard deviation of a log effect that is due to its curve's shape
_SMALLEST = 1e-3  # amount, in units of a series' scale


def expected_weights(model: CausalModel, inferred: Inference) -> Tensor:
    """[B, N, D, N]: posterior mean of what a unit of every response adds to every receiver."""
    posterior = inferred.posterior
    mean, variance = posterior.effect_mean, (2 * posterior.effect_log_sd).exp()
    log_effect = mean + 0.5 * variance
    if not model.config.store_effects:
        log_effect = torch.zeros_like(mean)
    return model.decoder.weights(causal_probability(posterior.edges), log_effect)


def one_step_errors(model: CausalModel, inferred: Inference) -> Tensor:
    """[B, N, T - 1]: what expected effects and own past leave of every receiver, in scaled units,
    from the second row of each window on."""
    message = model.decoder.message(inferred.responses, expected_weights(model, inferred))
    explained = message + ar_prediction(inferred.ar_weights, inferred.residual)
    return inferred.residual[..., 1:] - explained


def long_run_multiplier(ar_weights: Tensor) -> Tensor:
    """[...]: what a lasting effect of one a step comes to in receivers with own weights [..., P].

    The long-run multiplier of autoregressive distributed lags, 1 / (1 - sum of own weights).
    """
    return 1 / (1 - cap_persistence(ar_weights).sum(-1))


def ar_filter(parts: Tensor, ar_weights: Tensor) -> Tensor:
    """Parts [B, K, T] that a receiver gets step by step, each with what its own past keeps of it.

    c(t) = part(t) + sum_p own_p c(t - p) with own weights [B, P], as if every part had been at its
    mean before the window.
    """
    weights = cap_persistence(ar_weights).mT.unsqueeze(-1)  # [P, B, 1]

    def step(state: State, now: State) -> tuple[State, State]:
        (past,), (part,) = state, now
        value = part + (weights * past).sum(0)
        return (torch.cat([value.unsqueeze(0), past[:-1]]),), (value,)

    before = parts.mean(-1) * long_run_multiplier(ar_weights).unsqueeze(-1)
    (kept,) = roll(step, (before.expand(len(weights), -1, -1),), (parts.permute(2, 0, 1),))
    return kept.permute(1, 2, 0)


def effect_interval(
    model: CausalModel, mean: Tensor, log_sd: Tensor, shape_sd: Tensor, shared: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, lower and upper end (central 90 %) of ``shared`` effects in stores whose own log
    deviation from them has this mean and deviation, on curves of uncertain shape
    (:func:`shape_deviation`)."""
    sd = log_sd.exp()
    if not model.config.store_effects:
        mean, sd = torch.zeros_like(mean), torch.zeros_like(sd)
    whole = _NORMAL_95 * (sd.square() + shape_sd.square()).sqrt()
    ends = [shared * (mean + side * whole).exp() for side in (-1, 1)]
    return shared * (mean + 0.5 * sd.square()).exp(), torch.minimum(*ends), torch.maximum(*ends)


def shape_deviation(
    decoder: ResponseDecoder, context: Tensor, level: Tensor, amounts: Tensor
) -> Tensor:
    """[B, N, G]: standard deviation of the log response to ``amounts`` [B, N, G], both scaled.

    A window shows how a receiver moves while its sender moves around ``level`` [B, N, 1]: the slope
    of the curve there. How far the curve has climbed from zero depends on its shape, which a store
    shares with others only roughly. With slope k, half-saturation h, s = hill(g) and the product
    effect * hill'(level) known, the log response at g changes by

        (1 - s) u - 1 - (1 - 2 s0) u0   with log k,   k (s - 2 s0)   with log h,

    where u = k log(g / h), and s0 and u0 are those of the level.
    """
    if not decoder.config.saturation:
        return torch.zeros_like(amounts)
    slope, half = decoder.curve(context)
    bend, bend0 = (slope * (x.abs().clamp_min(_SMALLEST) / half).log() for x in (amounts, level))
    share, share0 = bend.sigmoid(), bend0.sigmoid()
    by_slope = (1 - share) * bend - 1 - (1 - 2 * share0) * bend0
    by_half = slope * (share - 2 * share0)
    spread = _SHAPE_SPREAD * (by_slope.square() + by_half.square()).sqrt()
    return spread.clamp_max(_WIDEST)


def cap_persistence(ar_weights: Tensor) -> Tensor:
    """Own weights [..., P], smaller where effects would last for ever."""
    size = ar_weights.abs().sum(-1, keepdim=True).clamp_min(_LASTING)
    return ar_weights * (_LASTING / size)
