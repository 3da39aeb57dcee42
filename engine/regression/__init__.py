"""Response regression in closed form: the second regime, for few stores and short panels.

Given the shapes of responses a receiver is linear in everything else, so everything else
integrates out. Public functions are listed here; the amortised model is not used.
"""

from causalmmm.engine.regression.alignment import alignment_gain
from causalmmm.engine.regression.answers import (
    CurveTable,
    PairTable,
    StorePosterior,
    curves,
    graphs,
    store_posterior,
)
from causalmmm.engine.regression.carryover import carryover
from causalmmm.engine.regression.combined_edges import CombinedEdges
from causalmmm.engine.regression.config import RegressionConfig
from causalmmm.engine.regression.contributions import Contributions, contributions, mean_parts
from causalmmm.engine.regression.design import Layout, Observed, layout, observe
from causalmmm.engine.regression.fit import fit
from causalmmm.engine.regression.predict import Ahead, forecast, simulate, summary
from causalmmm.engine.regression.state import Calibration, Receiver, Regression

__all__ = [
    "Observed",
    "observe",
    "Layout",
    "layout",
    "RegressionConfig",
    "fit",
    "alignment_gain",
    "Regression",
    "Receiver",
    "Calibration",
    "CombinedEdges",
    "store_posterior",
    "StorePosterior",
    "graphs",
    "PairTable",
    "curves",
    "CurveTable",
    "carryover",
    "contributions",
    "Contributions",
    "mean_parts",
    "forecast",
    "simulate",
    "summary",
    "Ahead",
]
