"""A pretrained prior of graphs: what no single store can tell, learned from simulated stores.

Statistics of every ordered pair of a store's series, in closed form, go through a small network
that is the same for all pairs. Public functions are listed here; drawing laws and training on them
is started in ``causalmmm.model.pretraining``.
"""

from causalmmm.engine.prior.earlier import give_innovations_no_weight
from causalmmm.engine.prior.familiarity import Familiarity
from causalmmm.engine.prior.network import PriorNetwork
from causalmmm.engine.prior.shipped import (
    Prior,
    empty_familiarity,
    empty_network,
    read_prior,
    shipped_prior,
    write_prior,
)
from causalmmm.engine.prior.statistics import (
    PairStatistics,
    PanelKind,
    kinds_of,
    pair_statistics,
)
from causalmmm.engine.prior.training import Example, PretrainConfig, PretrainReport, train_prior

__all__ = [
    "PanelKind",
    "kinds_of",
    "PairStatistics",
    "pair_statistics",
    "PriorNetwork",
    "Familiarity",
    "Example",
    "PretrainConfig",
    "PretrainReport",
    "train_prior",
    "Prior",
    "shipped_prior",
    "read_prior",
    "write_prior",
    "empty_network",
    "empty_familiarity",
    "give_innovations_no_weight",
]
