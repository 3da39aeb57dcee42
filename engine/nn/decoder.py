"""Marketing Response Decoder: carry-over, saturation, and graph-gated effects on every receiver.

Independent of the encoder. A receiver depends on a sender only through the gate of their edge: with
the gate at zero the sender's response is multiplied by exact zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from causalmmm.engine.ops.export_switch import exporting
from causalmmm.engine.spec.config import ModelConfig
from causalmmm.kernels import adstock_hill
from causalmmm.kernels.likelihood import effect_weights, message
from causalmmm.kernels.response import delayed, reference

_LINEAR_HALF_SATURATION = 1e6  # far above the data, in units of a series' mean size
_PRIOR_ROWS = 5.0  # weight, in rows, of the pooled standard deviation of a series
_MIN_POSITIVE_EFFECT = 1e-3


class ResponseDecoder(nn.Module):
    """Responses of N senders in D components, and their effects beta [N, N, D] on N receivers.

    Component d of sender i carries over and saturates,

        a(t) = decay_id a(t - 1) + (1 - decay_id) x_i(t),    r_id(t) = a^k / (a^k + h^k),

    slope k and half-saturation h of sender i being functions of the context; it then adds
    gate_ij exp(log_effect_ij) beta_ijd r_id(t - 1 - delay_d) to receiver j at step t.

    positive  bool [N, N], pairs whose effect cannot be negative.
    """

    positive: Tensor

    def __init__(self, config: ModelConfig, positive: Tensor, context: int) -> None:
        super().__init__()
        nodes, components = len(positive), len(config.decays)
        self.config = config
        decay = torch.tensor(config.decays)
        self.raw_decay = nn.Parameter(torch.logit(decay).repeat(nodes, 1))
        self.log_slope = nn.Parameter(torch.full((nodes,), 0.2))
        self.log_half = nn.Parameter(torch.zeros(nodes))
        self.context_slope = nn.Parameter(torch.zeros(nodes, context))
        self.context_half = nn.Parameter(torch.zeros(nodes, context))
        self.raw_beta = nn.Parameter(torch.full((nodes, nodes, components), 0.0))
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
        """[N, N, D], the shared effects; non-negative where ``positive``."""
        return torch.where(self.positive.unsqueeze(-1), F.softplus(self.raw_beta), self.raw_beta)

    @torch.no_grad()
    def set_beta(self, beta: Tensor) -> None:
        """Set the shared effects [N, N, D]; positive ones are at least ``_MIN_POSITIVE_EFFECT``."""
        bounded = beta.clamp_min(_MIN_POSITIVE_EFFECT)
        raw = bounded + torch.log(-torch.expm1(-bounded))  # the inverse of softplus
        self.raw_beta.copy_(torch.where(self.positive.unsqueeze(-1), raw, beta))

    def curve(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Slope and half-saturation, [B, N, 1] for context [B, C] and [B, N, T] for [B, C, T]."""
        in_time = context if context.ndim == 3 else context.unsqueeze(-1)
        slope = self.log_slope.unsqueeze(-1) + self.context_slope @ in_time
        half = self.log_half.unsqueeze(-1) + self.context_half @ in_time
        return F.hardtanh(slope, -2.0, 2.0).exp(), F.hardtanh(half, -4.0, 4.0).exp()

    def respond(self, x: Tensor, context: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
        """Undelayed responses [B, N, D, T] of scaled series x [B, N, T], and the final adstock.

        ``initial`` [B, N, D] or [B, N, 1] is the adstock before the first row: the final one of the
        preceding rows, or ``Batch.level``, which assumes average spend before the window.
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
        # Hill with slope 1 and half-saturation h far above the data is x / h, to one part in 1e6
        half = torch.full_like(slope, _LINEAR_HALF_SATURATION).unsqueeze(2)
        response, final = adstock_hill(
            x.unsqueeze(2), self.decay.unsqueeze(-1), torch.ones_like(half), half, initial
        )
        return response * _LINEAR_HALF_SATURATION, final

    def delayed(self, response: Tensor, rows: int | None = None) -> Tensor:
        """The first ``rows`` rows (None: all) of the response [B, N, D, T], component d shifted by
        its delay and padded by its first value."""
        rows = response.shape[-1] if rows is None else rows
        if not any(self.config.delays):
            return response[..., :rows]
        if exporting():
            return reference.delayed(response, self.config.delays, rows)
        return delayed(response, self.config.delays, rows)

    def weights(self, gate: Tensor, log_effect: Tensor) -> Tensor:
        """[B, N, D, N]: gate_ij exp(log_effect_ij) beta_ijd, gates and log effects [B, N, N]."""
        return effect_weights(gate, log_effect, self.beta)

    def message(self, response: Tensor, weights: Tensor) -> Tensor:
        """[B, N, T]: sum of the effects of responses [B, N, D, T] on every receiver."""
        return message(response, weights)

    def store_ar_weights(self, state: Tensor) -> Tensor:
        """[B, N, P]: autoregressive weights of stores with states [B, N, H], lag 1 first."""
        return self.ar_weights + 0.3 * torch.tanh(self.ar_state(state))

    def noise(self, spread: Tensor, rows: Tensor) -> Tensor:
        """[B, N]: log standard deviation of one-step errors.

        A learned multiple of the standard deviation ``spread`` [B, N] of the calendar residuals.
        As that is measured on few ``rows`` [B, N], it is first shrunk towards the pooled one of all
        stores; otherwise a series that happened to be constant would get exact forecasts.
        """
        pooled = (2 * self.log_pooled).exp()
        shrunk = (rows * spread.square() + _PRIOR_ROWS * pooled) / (rows + _PRIOR_ROWS)
        return 0.5 * shrunk.log() + self.log_noise
