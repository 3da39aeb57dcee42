"""Do the stores of a panel share effects? The fitted model against regressions of each store alone.

Both predict the same hidden rows from the same rows seen; nothing here looks at graphs.
"""

from __future__ import annotations

import numpy as np
import torch

from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.evidence.ard import ard_forecast
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.spec.config import TrainConfig

_STORES = 200  # at most, spread over the panel
_AT_ONCE = 20


@torch.no_grad()
def gain_of_sharing(
    model: CausalModel, windows: Windows, config: TrainConfig, *, seed: int, device: torch.device
) -> float:
    """Nats a store and step by which the model predicts hidden blocks better than a Bayesian vector
    autoregression of each store (:func:`ard_forecast`); negative where it predicts worse.

    The model learned from these stores, the regressions only from the rows they see: a panel on
    which the model loses nevertheless has effects that its stores do not share.
    """
    lags = model.config.lags
    count = windows.data.n_stores
    some = np.arange(0, count, -(-count // _STORES))
    rng = np.random.default_rng((seed, 4))
    gain = target_mask = 0.0
    for k in range(0, len(some), _AT_ONCE):
        batch = windows.cross(some[k : k + _AT_ONCE], config.target_share, rng).to(device)
        rows = batch.target_mask.sum().item()
        inferred = model.infer(batch)  # the mean of graphs and effects predicts best
        loss = model.score(batch, inferred, noise=torch.zeros_like(inferred.posterior.effect_mean))
        sent = model.baseline(batch.x, inferred.projection)[1]
        mean, sd = ard_forecast(sent, inferred.residual, inferred.active, batch.context_mask, lags)
        density = torch.distributions.Normal(mean, sd).log_prob(inferred.residual[..., lags:])
        counted = batch.target_mask[:, None, lags:] * inferred.active[..., lags:]
        gain -= (density * counted).sum().item() + loss.nll.sum().item() * rows
        target_mask += rows
    return gain / target_mask
