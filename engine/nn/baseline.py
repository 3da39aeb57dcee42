"""Baseline of every series from calendar and controls, solved in closed form per store.

Each store's coefficients are a ridge regression on its context rows, shrunk towards coefficients
that all stores share; the shared coefficients and the shrinkage of each group of terms are learned.
Responses pass through the same projection (Frisch-Waugh-Lovell), so an edge can only explain what
the calendar does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.batches.masks import as_receivers, has_full_lags
from causalmmm.engine.ops.export_switch import exporting
from causalmmm.engine.ops.linalg import spd_inverse
from causalmmm.kernels import calendar as compiled

# Prior standard deviation of a store's coefficient around the shared one, in units of the series'
# level.
_PRIOR_STD = {
    "intercept": 3.0,
    "trend": 0.3,
    "weekly": 0.3,
    "yearly": 0.2,
    "holiday": 0.3,
    "control": 0.3,
}
_INITIAL_NOISE_STD = 0.2
_MAX_LOG_RIDGE = 12.0  # as in csrc/calendar/calendar.h


@dataclass
class Projection:
    """Ridge regression on the basis over the context rows, ready to apply to any set of series.

    basis         [B, T, Q].
    solver        [B, Q, T], maps series to coefficients; zero outside the context rows.
    spread        [B, Q, Q], float64, posterior covariance of the coefficients per unit of noise
                  variance.
    context_mask  bool [B, T].
    """

    basis: Tensor
    solver: Tensor
    spread: Tensor
    context_mask: Tensor

    def coefficients(self, series: Tensor) -> Tensor:
        """[B, R, T] -> [B, R, Q]."""
        return series @ self.solver.mT

    def residual(self, series: Tensor) -> Tensor:
        """Series [B, R, T] less their fit."""
        return series - self.coefficients(series) @ self.basis.mT

    def ahead(self) -> Projection:
        """The projection for series that act one step later: row t is fitted by basis row t + 1."""
        context_mask = has_full_lags(self.context_mask, 1)
        solver = self.solver[..., 1:] * context_mask.unsqueeze(1)
        return Projection(self.basis[:, 1:], solver, self.spread, context_mask)


@dataclass
class Residuals:
    """Series of a batch after their calendar.

    projection    regression of the calendar on the context rows.
    coefficients  [B, N, Q], baseline coefficients.
    received      [B, N, T], residuals of series as receivers; zero on padding and where a series is
                  not active.
    sent          [B, N, T], residuals of series as senders; without gradient.
    active        0 or 1, [B, N, T], see ``as_receivers``.
    """

    projection: Projection
    coefficients: Tensor
    received: Tensor
    sent: Tensor
    active: Tensor


class CalendarBaseline(nn.Module):
    """Shared baseline coefficients [N, Q] and learned shrinkage [Q] of the stores towards them."""

    def __init__(self, nodes: int, groups: tuple[str, ...]) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.zeros(nodes, len(groups)))
        with torch.no_grad():
            self.shared[:, 0] = 1.0  # series are scaled to mean |x| = 1
        prior_std = torch.tensor([_PRIOR_STD[g] for g in groups])
        self.log_ridge = nn.Parameter(2 * torch.log(_INITIAL_NOISE_STD / prior_std))

    def explain(self, batch: Batch, spend: Tensor) -> Residuals:
        """What the calendar leaves of a batch; ``spend``, bool [N], are series for which zero means
        no spend."""
        if compiled.supported(batch.x, batch.basis.shape[-1]) and not exporting():
            received, sent, active, coefficients, solver, spread = compiled.calendar_residuals(
                *(batch.x, batch.basis, batch.context_mask, batch.target_mask, spend),
                *(self.shared, self.log_ridge),
            )
            projection = Projection(batch.basis, solver, spread, batch.context_mask)
            return Residuals(projection, coefficients, received, sent.detach(), active.detach())
        projection = self.project(batch.basis, batch.context_mask)
        series, active = as_receivers(batch.x, spend, batch.context_mask)
        coefficients, received = self(series, projection)
        received = received * active * batch.valid.unsqueeze(1)
        sent = self(batch.x, projection)[1].detach()
        return Residuals(projection, coefficients, received, sent, active)

    def project(self, basis: Tensor, context_mask: Tensor) -> Projection:
        """Projection on a basis [B, T, Q] over context rows, bool [B, T].

        Solved in float64: only the shrinkage separates yearly harmonics over a few weeks, or two
        controls that agree, and float32 loses it in the sums that it is added to.
        """
        context_basis = (basis * context_mask.unsqueeze(-1)).double()
        ridge = self.log_ridge.clamp(-_MAX_LOG_RIDGE, _MAX_LOG_RIDGE).double().exp()
        gram = context_basis.mT @ context_basis + torch.diag(ridge)
        spread = spd_inverse(gram)
        solver = (spread @ context_basis.mT).to(basis.dtype)
        return Projection(basis, solver, spread, context_mask)

    def forward(self, x: Tensor, projection: Projection) -> tuple[Tensor, Tensor]:
        """Baseline coefficients [B, N, Q] and residual [B, N, T] of scaled series x [B, N, T]."""
        deviation = x - self.shared @ projection.basis.mT  # from the shared baseline
        coefficients = projection.coefficients(deviation)
        return coefficients + self.shared, deviation - coefficients @ projection.basis.mT
