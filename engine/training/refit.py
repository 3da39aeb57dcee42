"""Refits of prototypes and shared effects between epochs, from the evidence of many stores."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.evidence.response import ResponseEvidence
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.training.adamw import AdamW
from causalmmm.engine.training.prototypes import fit_mixture, toggle_prototype_edges

_MAX_REFIT_STORES = 500


@torch.no_grad()
def refit_prototypes(
    model: CausalModel,
    windows: Windows,
    stores: NDArray[np.int64],
    optimiser: AdamW,
    *,
    stores_per_batch: int,
    device: torch.device,
    seed: int,
) -> None:
    """Refit the prototypes to the present evidence of at most ``_MAX_REFIT_STORES`` stores.

    Weights and optimiser state of ``model`` change in place; nothing changes where one prototype
    fits the stores as well as several.
    """
    model.eval()
    sample = stores[:: math.ceil(len(stores) / _MAX_REFIT_STORES)]
    evidence: list[ResponseEvidence] = []
    precision: list[Tensor] = []  # [B, N] each, inverse standard deviation of one-step errors
    for k in range(0, len(sample), stores_per_batch):
        inferred = model.infer(windows.full(sample[k : k + stores_per_batch]).to(device))
        if inferred.evidence is None:
            return
        evidence.append(inferred.evidence)
        precision.append((-inferred.log_noise).exp())
    encoder, decoder = model.encoder, model.decoder
    prior = encoder.log_prior[..., 1].exp()  # [N, N]
    factor = torch.cat([batch.factor for batch in evidence])  # [S, N, N]
    mixture = fit_mixture(factor, prior, len(encoder.prototypes), seed=seed)
    if mixture is None:
        return
    gram, xty = _pooled(mixture.share, evidence, precision, stores_per_batch)
    rate, beta = toggle_prototype_edges(
        mixture,
        factor,
        gram,
        xty,
        decoder.beta,
        prior,
        decoder.positive,
        steps=min(int(np.median(windows.data.lengths)), windows.window),
    )
    encoder.prototypes.copy_(rate.logit(1e-4))
    encoder.mixture.copy_(mixture.log_weight)
    decoder.set_beta(beta)
    for parameter in (encoder.prototypes, encoder.mixture):
        for moment in optimiser.state.get(parameter, {}).values():
            moment.zero_()


def _pooled(
    share: Tensor, evidence: list[ResponseEvidence], precision: list[Tensor], stores_per_batch: int
) -> tuple[Tensor, Tensor]:
    """Curvature [P, N, N D, N D] and gradient [P, N, N D] of each prototype's likelihood in the
    effects on every receiver, summed over stores with weights ``share`` [S, P]."""
    nodes, width = evidence[0].cross.shape[2], evidence[0].gram.shape[-1]
    gram = share.new_zeros(share.shape[1], nodes, width, width)
    xty = share.new_zeros(gram.shape[:-1])
    batches = zip(share.split(stores_per_batch), evidence, precision, strict=True)
    for batch_share, batch, inverse_sd in batches:
        weight = inverse_sd.square() * batch.share  # [B, N]
        gram += torch.einsum("bp,bj,bmn->pjmn", batch_share, weight, batch.gram)
        xty += torch.einsum("bp,bj,bmj->pjm", batch_share, inverse_sd, batch.cross)
    return gram, xty
