"""Pictures of a store: its graph, forecast, response curves, and what its target is made of.

Every function draws a frame or graph as the model gives it, and returns a matplotlib figure.
"""

from causalmmm.plots.effects import plot_curves, plot_decomposition
from causalmmm.plots.forecast import plot_forecast
from causalmmm.plots.graph import plot_graph

__all__ = ["plot_curves", "plot_decomposition", "plot_forecast", "plot_graph"]
