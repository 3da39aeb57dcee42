"""Networks of models saved before innovations were read answer as they did then."""

from __future__ import annotations

import torch
from torch import nn

from causalmmm.engine.prior.familiarity import Familiarity
from causalmmm.engine.prior.network import PriorNetwork

# Of each statistic of ``pair_statistics``, in its order: how many, and whether innovations tell it.
_PAIR, _NODE = ((26, False), (3, True)), ((16, False), (4, True))
_STATISTICS = (*_PAIR, *_PAIR, (4, True), *_NODE, *_NODE, (10, False))


@torch.no_grad()
def give_innovations_no_weight(network: PriorNetwork, familiarity: Familiarity) -> None:
    """Let a loaded network that reads 94 statistics take today's 112, in place: the new ones get
    no weight. One that reads today's stays as it is; ``ValueError`` for any other number."""
    new = torch.tensor([told for count, told in _STATISTICS for _ in range(count)])
    found = len(network.center)
    if found == len(new):
        return
    if found != int((~new).sum()):
        raise ValueError(f"its prior reads {found} statistics, this version has {len(new)}")
    old = ~new
    network.center = _spread_out(network.center, old, 0.0)
    network.spread = _spread_out(network.spread, old, 1.0)
    first = network.read[0]
    assert isinstance(first, nn.Linear)
    first.in_features = len(new)
    first.weight = nn.Parameter(_spread_out(first.weight.mT, old, 0.0).mT, requires_grad=False)
    both = old.repeat(2)  # means and deviations
    familiarity.center = _spread_out(familiarity.center, both, 0.0)
    familiarity.spread = _spread_out(familiarity.spread, both, 1.0)
    familiarity.directions = _spread_out(familiarity.directions, both, 0.0)


def _spread_out(rows: torch.Tensor, place: torch.Tensor, rest: float) -> torch.Tensor:
    """The rows where ``place`` is true, and ``rest`` elsewhere."""
    whole = rows.new_full((len(place), *rows.shape[1:]), rest)
    whole[place] = rows
    return whole
