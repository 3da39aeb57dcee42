"""PCMCI (Runge et al., 2019) by tigramite: conditional independence tests at lags 1..L, per store.

Tuning: partial correlation, the selection level of its first stage chosen by tigramite itself
(``pc_alpha=None``, its information criterion); no budget beyond that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.experiments.baselines.series import clear_of_calendar

Array = NDArray[np.float64]


def pcmci(series: Array, *, lags: int = 7) -> Array:
    """Smallest p-value over lags 1..L of "sender i drives receiver j at this lag", [S, N, N] from
    histories [S, T, N]; a decision has to allow for the L tests."""
    from tigramite.data_processing import DataFrame
    from tigramite.independence_tests.parcorr import ParCorr
    from tigramite.pcmci import PCMCI

    p_values = []
    for store in clear_of_calendar(series):
        still = store.std(0) == 0.0  # a constant cannot be tested; it drives nothing
        moving = np.where(still, np.random.default_rng(0).standard_normal(store.shape), store)
        run = PCMCI(dataframe=DataFrame(moving), cond_ind_test=ParCorr(), verbosity=0)
        tested = run.run_pcmci(tau_min=1, tau_max=lags, pc_alpha=None)["p_matrix"][..., 1:]
        p_value = tested.min(-1)
        p_value[still], p_value[:, still] = 1.0, 1.0
        p_values.append(p_value)
    return np.stack(p_values)
