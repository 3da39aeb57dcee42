"""Do the stores of a panel share effects? The fitted model against regressions of each store alone.

Both predict the same target rows from the same context rows; graphs play no part.
"""

from __future__ import annotations

import numpy as np
import torch

from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.evidence.ard import ard_forecast
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.spec.config import TrainConfig

_MAX_STORES = 200  # evenly spaced over the panel
_STORES_PER_BATCH = 20


@torch.no_grad()
def gain_of_sharing(
    model: CausalModel, windows: Windows, config: TrainConfig, *, seed: int, device: torch.device
) -> float:
    """Gain of the model over a Bayesian vector autoregression of each store
    (:func:`ard_forecast`) on target blocks, in nats per store and step; negative for a loss.

    The model has been trained on these stores, the regressions only on their context rows: if the
    model loses nevertheless, the stores do not share their effects.
    """
    lags = model.config.lags
    count = windows.data.n_stores
    stores = np.arange(0, count, -(-count // _MAX_STORES))
    rng = np.random.default_rng((seed, 4))
    gain = target_rows = 0.0
    for k in range(0, len(stores), _STORES_PER_BATCH):
        chunk = stores[k : k + _STORES_PER_BATCH]
        batch = windows.cross(chunk, config.target_share, rng).to(device)
        inferred = model.infer(batch)  # posterior means of graphs and effects predict best
        no_noise = torch.zeros_like(inferred.posterior.effect_mean)
        loss = model.negative_elbo(batch, inferred, noise=no_noise)
        sent = model.baseline(batch.x, inferred.projection)[1]
        mean, sd = ard_forecast(sent, inferred.residual, inferred.active, batch.context_mask, lags)
        log_density = torch.distributions.Normal(mean, sd).log_prob(inferred.residual[..., lags:])
        counted = batch.target_mask[:, None, lags:] * inferred.active[..., lags:]
        gain -= (log_density * counted).sum().item() + loss.nll.sum().item()
        target_rows += batch.target_mask.sum().item()
    return gain / target_rows
