"""When a step's spend acts on the target, according to a fitted regression."""

from __future__ import annotations

import torch
from torch import Tensor

from causalmmm.engine.regression.state import Regression
from causalmmm.engine.regression.theta import theta_spec


@torch.no_grad()
def carryover(regression: Regression, lags: int) -> tuple[tuple[int, ...], Tensor]:
    """Senders of the target, and the share [D, n, lags + 1] of their effect that arrives at each
    lag, in posterior draws of the decays that all stores share.

    A pair that may act within the step begins at lag 0, another at lag 1.
    """
    target = regression.layout.nodes - 1
    fitted = regression.receivers[target]
    n = len(fitted.senders)
    spec = theta_spec(regression.config, n, (), (0,), 0.0)  # decays come first, terms do not matter
    decay = spec.unpack(fitted.theta_draws[:, : sum(spec.sizes)]).decay.unsqueeze(-1)  # [D, n, 1]
    late = (~regression.layout.instant[list(fitted.senders), target]).to(decay.dtype)
    since = torch.arange(lags + 1) - late.unsqueeze(-1)  # [n, lags + 1], steps since it began
    share = (1 - decay) * decay ** since.clamp_min(0)
    return fitted.senders, torch.where(since < 0, 0.0, share)
