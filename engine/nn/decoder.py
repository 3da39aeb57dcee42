"""Marketing Response Decoder: carry-over, saturation and graph-gated effects on every receiver.

Knows nothing of the encoder. A receiver depends on a sender only through its gate: with the gate at
zero the sender's series is multiplied by exact zeros.
"""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from causalmmm.engine.spec.config import ModelConfig
from causalmmm.kernels import adstock_hill

_FAR = 1e6  # in units of a series' mean size
_PRIOR_ROWS = 5.0  # rows of evidence that the pooled spread of a series counts as


class ResponseDecoder(nn.Module):
    """Responses of N senders in D components and their effects beta [N, N, D] (DESIGN 4.3).

    positive  bool [N, N]: pairs whose effect cannot be negative.
    """

    positive: Tensor

    def __init__(self, config: ModelConfig, positive: Tensor, context: int) -> None:
        super().__init__()
        nodes, parts = len(positive), len(config.decays)
        self.config = config
        decay = torch.tensor(config.decays)
        self.raw_decay = nn.Parameter(torch.logit(decay).repeat(nodes, 1))
        self.log_slope = nn.Parameter(torch.full((nodes,), 0.2))
        self.log_half = nn.Parameter(torch.zeros(nodes))
        self.context_slope = nn.Parameter(torch.zeros(nodes, context))
        self.context_half = nn.Parameter(torch.zeros(nodes, context))
        self.raw_beta = nn.Parameter(torch.full((nodes, nodes, parts), 0.0))
        self.register_buffer("positive", positive)
        with torch.no_grad():  # softplus(-3) = 0.05: small, and equal for all pairs
            self.raw_beta[positive] = -3.0
            self.raw_beta[~positive] = 0.02
        self.ar_weights = nn.Parameter(torch.zeros(nodes, config.ar_lags))
        self.ar_state = nn.Linear(config.hidden, config.ar_lags, bias=False)
        nn.init.zeros_(self.ar_state.weight)
        self.log_pooled = nn.Parameter(torch.full((nodes,), -1.0))
        self.log_noise = nn.Parameter(torch.zeros(nodes))

    @property
    def decay(self) -> Tensor:
        """[N, D] in (0, 1); zero without carry-over."""
        if not self.config.carryover:
            return torch.zeros_like(self.raw_decay)
        return torch.sigmoid(self.raw_decay)

    @property
    def beta(self) -> Tensor:
        """[N, N, D], the effect that all stores share; non-negative where ``positive``."""
        return torch.where(self.positive.unsqueeze(-1), F.softplus(self.raw_beta), self.raw_beta)

    @torch.no_grad()
    def set_beta(self, beta: Tensor) -> None:
        """Give the shared effects these values [N, N, D]."""
        least = beta.clamp_min(1e-3)
        raw = least + torch.log(-torch.expm1(-least))  # the inverse of softplus
        self.raw_beta.copy_(torch.where(self.positive.unsqueeze(-1), raw, beta))

    def curve(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Slope and half-saturation [B, N, 1], or [B, N, T] where context [B, C, T] moves."""
        moving = context if context.ndim == 3 else context.unsqueeze(-1)
        slope = self.log_slope.unsqueeze(-1) + self.context_slope @ moving
        half = self.log_half.unsqueeze(-1) + self.context_half @ moving
        return slope.clamp(-2, 2).exp(), half.clamp(-4, 4).exp()

    def respond(self, x: Tensor, context: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
        """Responses [B, N, D, T] of scaled series x [B, N, T], undelayed, and the final state.

        ``initial`` [B, N, D] or [B, N, 1] is the carry-over before the first row: that of an
        earlier stretch, or ``Batch.level``, as if spend had been the same before the window.
        """
        initial = initial.expand(*x.shape[:2], len(self.config.decays))
        slope, half = self.curve(context)
        if self.config.saturation:
            return adstock_hill(
                x.unsqueeze(2),
                self.decay.unsqueeze(-1),
                slope.unsqueeze(2),
                half.unsqueeze(2),
                initial,
            )
        # a slope of one and a half-saturation far above the data is the identity over that level,
        # to one part in a million
        far = torch.full_like(slope, _FAR).unsqueeze(2)
        response, final = adstock_hill(
            x.unsqueeze(2), self.decay.unsqueeze(-1), torch.ones_like(far), far, initial
        )
        return response * _FAR, final

    def delayed(self, response: Tensor) -> Tensor:
        """Response [B, N, D, T] with component d shifted by its delay; first values fill gaps."""
        if not any(self.config.delays):
            return response
        begin, parts = 0, []
        for delay, same in groupby(self.config.delays):
            end = begin + len(list(same))
            part = response[:, :, begin:end, : response.shape[-1] - delay]
            if delay:
                gap = part[..., :1].expand(*part.shape[:-1], delay)
                part = torch.cat([gap, part], dim=-1)
            parts.append(part)
            begin = end
        return torch.cat(parts, dim=2)

    def weights(self, gate: Tensor, log_effect: Tensor) -> Tensor:
        """[B, N, D, N]: gate_ij exp(log_effect_ij) beta_ijd, from [B, N, N] gates and effects."""
        scale = gate * log_effect.exp()
        return scale.unsqueeze(2) * self.beta.transpose(1, 2)

    def message(self, response: Tensor, weights: Tensor) -> Tensor:
        """[B, N, T]: what responses [B, N, D, T] add to every receiver one step later."""
        return weights.flatten(1, 2).mT @ response.flatten(1, 2)

    def store_ar_weights(self, state: Tensor) -> Tensor:
        """[B, N, P]: weights of a receiver's own last P residuals, latest first."""
        return self.ar_weights + 0.3 * torch.tanh(self.ar_state(state))

    def noise(self, spread: Tensor, rows: Tensor) -> Tensor:
        """[B, N]: log standard deviation of one-step errors.

        A learned share of the standard deviation [B, N] of what a store's calendar leaves of each
        series. Measured on ``rows`` [B, N], it is shrunk towards that of all stores, so that a
        series that happened to be still does not promise exact forecasts.
        """
        pooled = (2 * self.log_pooled).exp()
        shrunk = (rows * spread.square() + _PRIOR_ROWS * pooled) / (rows + _PRIOR_ROWS)
        return 0.5 * shrunk.log() + self.log_noise
