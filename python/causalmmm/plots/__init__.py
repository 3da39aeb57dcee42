"""Pictures: graphs, forecasts, fits, response and carry-over curves, decompositions, decisions.

Every function takes a frame or graph as the models return it and returns a matplotlib figure;
nothing is computed from a model here, and nothing written. Those with one axis take ``ax=``. A
series has one colour in all of them, titles state what the picture shows, and ``title=`` replaces
them.
"""

from causalmmm.plots.decisions import (
    plot_budget,
    plot_errors,
    plot_paths,
    plot_roi,
    plot_shares,
    plot_stores,
)
from causalmmm.plots.effects import (
    plot_adstock,
    plot_curves,
    plot_decomposition,
    plot_waterfall,
)
from causalmmm.plots.forecast import plot_fit, plot_forecast, plot_residuals
from causalmmm.plots.graph import mean_graph, plot_graph
from causalmmm.plots.trust import plot_trust

__all__ = [
    "plot_graph",
    "mean_graph",
    "plot_forecast",
    "plot_fit",
    "plot_residuals",
    "plot_curves",
    "plot_adstock",
    "plot_decomposition",
    "plot_waterfall",
    "plot_roi",
    "plot_shares",
    "plot_paths",
    "plot_budget",
    "plot_stores",
    "plot_errors",
    "plot_trust",
]
