"""The experiments that a calibrated model holds, beside what the panel says of them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pandas as pd

from causalmmm.engine.regression import Regression

if TYPE_CHECKING:
    from causalmmm.data.panel import Panel
    from causalmmm.model.estimator import CausalMMM


def experiments_of(model: CausalMMM, panel: Panel) -> pd.DataFrame | None:
    """The table of ``CausalMMM.calibrate`` for the experiments of a calibrated model, else None.

    The model itself is left as it is.
    """
    fitted = model.model_
    if not isinstance(fitted, Regression) or fitted.calibration is None:
        return None
    return copy.copy(model).calibrate(pd.DataFrame(fitted.calibration.experiments), panel)
