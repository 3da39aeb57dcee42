"""Layout and scale of the statistics that the encoder reads."""

from __future__ import annotations

from torch import Tensor

RIDGE = 10.0  # prior precision of a standardised VAR coefficient, in units of the noise variance
CLIP = 8.0  # bound of standardised series and of features before they are halved
FLAT = 0.01  # a residual standard deviation below this share of a series' level counts as constant
RESPONSE_WIDTH = 8  # edge features of ``response_evidence``
LOG_BF_COLUMN = -2  # position of the log Bayes factor among the edge features
LOG_BF_UNIT = 4.0  # nats per unit of that feature


def edge_width(lags: int) -> int:
    """F: number of edge features, window statistics and response evidence together."""
    return 2 * lags + 5 + RESPONSE_WIDTH


def node_width(lags: int) -> int:
    """G: number of node features."""
    return lags + 5


def squashed(value: Tensor) -> Tensor:
    """Logarithmic far from zero, for statistics without a bound."""
    return value.sign() * value.abs().log1p()
