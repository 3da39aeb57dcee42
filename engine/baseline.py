"""The part of every series that dates and controls explain, solved in closed form per store.

Each store's coefficients are a ridge regression on the rows it may see, shrunk towards coefficients
that all stores share; the shared coefficients and the shrinkage of each kind of term are learned.
Responses pass through the same projection (Frisch-Waugh-Lovell), so an edge can only explain what
the calendar does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from causalmmm.engine.linalg import spd_inverse
from causalmmm.engine.windows import whole_past

# Prior spread of a store's coefficient around the shared one, in units of the series' level.
_SPREAD = {
    "intercept": 3.0,
    "trend": 0.3,
    "weekly": 0.3,
    "yearly": 0.2,
    "holiday": 0.3,
    "control": 0.3,
}
_NOISE = 0.2


@dataclass
class Projection:
    """Ridge regression of rows ``seen`` on the basis, ready to apply to any set of series.

    basis   [B, T, Q];  solver [B, Q, T] maps series on the seen rows to coefficients;
    spread  [B, Q, Q], float64, posterior covariance of coefficients per unit of noise variance;
    seen    bool [B, T].
    """

    basis: Tensor
    solver: Tensor
    spread: Tensor
    seen: Tensor

    def coefficients(self, series: Tensor) -> Tensor:
        """[B, R, T] -> [B, R, Q]."""
        return series @ self.solver.mT

    def residual(self, series: Tensor) -> Tensor:
        """[B, R, T] less what the basis explains of it."""
        return series - self.coefficients(series) @ self.basis.mT

    def ahead(self) -> Projection:
        """For series that act one step later: their row t meets row t + 1 of the basis."""
        seen = whole_past(self.seen, 1)
        solver = self.solver[..., 1:] * seen.unsqueeze(1)
        return Projection(self.basis[:, 1:], solver, self.spread, seen)


class CalendarBaseline(nn.Module):
    """Shared calendar coefficients [N, Q] and learned shrinkage [Q] of the stores towards them."""

    def __init__(self, nodes: int, groups: tuple[str, ...]) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.zeros(nodes, len(groups)))
        with torch.no_grad():
            self.shared[:, 0] = 1.0  # series are scaled to mean |x| = 1
        spread = torch.tensor([_SPREAD[g] for g in groups])
        self.log_ridge = nn.Parameter(2 * torch.log(_NOISE / spread))

    def project(self, basis: Tensor, seen: Tensor) -> Projection:
        """Projection of a batch: basis [B, T, Q], seen bool [B, T].

        Solved in float64: a year's harmonics over a few weeks, or two controls that agree, are held
        apart by the shrinkage alone, which float32 loses in the sums beside it.
        """
        visible = (basis * seen.unsqueeze(-1)).double()
        gram = visible.mT @ visible + torch.diag(self.log_ridge.clamp(-12, 12).double().exp())
        spread = spd_inverse(gram)
        return Projection(basis, (spread @ visible.mT).to(basis.dtype), spread, seen)

    def forward(self, x: Tensor, projection: Projection) -> tuple[Tensor, Tensor]:
        """Baseline coefficients [B, N, Q] and residual [B, N, T] of scaled series x [B, N, T]."""
        surprise = x - self.shared @ projection.basis.mT
        coefficients = projection.coefficients(surprise)
        return coefficients + self.shared, surprise - coefficients @ projection.basis.mT
