"""Pictures of one store: its graph, forecast, response curves and decomposition.

Every function takes a frame or graph as the models return it and returns a matplotlib figure;
nothing is computed from a model here, and nothing written.
"""

from causalmmm.plots.effects import plot_curves, plot_decomposition
from causalmmm.plots.forecast import plot_forecast
from causalmmm.plots.graph import plot_graph

__all__ = ["plot_curves", "plot_decomposition", "plot_forecast", "plot_graph"]
