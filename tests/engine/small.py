"""Models small enough to test by hand."""

from __future__ import annotations

import torch

from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.nn.posterior import edge_log_prior
from causalmmm.engine.spec.calendar import CalendarSpec
from causalmmm.engine.spec.config import ModelConfig

NODES, CONTEXT, MEMORY = 4, 2, 4


def build(prior: torch.Tensor | float = 0.2, seed: int = 0, **config: object) -> CausalModel:
    """A model with random, not initial, weights everywhere, so that nothing is zero by accident."""
    torch.manual_seed(seed)
    settings = ModelConfig(**{"hidden": 16, "lags": 3, "ar_lags": 3, "yearly": 1, **config})
    positive = torch.zeros(NODES, NODES, dtype=torch.bool)
    positive[:2, 2:] = True
    probability = torch.full((NODES, NODES), prior) if isinstance(prior, float) else prior
    spend = torch.tensor([True, True, False, False])
    groups = CalendarSpec("D", yearly=1).groups
    model = CausalModel(settings, groups, CONTEXT, positive, edge_log_prior(probability), spend)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()
