"""Whether the effects of a panel begin within the step or one later: evidence, without a fit."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from causalmmm.data.panel import Panel
from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.regression import RegressionConfig, alignment_gain, layout
from causalmmm.engine.spec.calendar import Calendar, calendar_spec
from causalmmm.model.answers import observed_stores

_STORES = 20  # at most, spread over the panel
_WINDOW = 730  # last rows of a history that count
_SURE = 5.0  # nats that are asked for
_A_STORE = 1.0  # of them for every store, where that is more: usual shapes are not a store's own
_FOUND: WeakKeyDictionary[Panel, bool] = WeakKeyDictionary()  # one command asks several times


def begins_within_step(panel: Panel) -> bool:
    """Whether evidence says that the effects of a panel begin within the step."""
    if panel not in _FOUND:
        _FOUND[panel] = within_step(panel) > max(_SURE, _A_STORE * len(_looked_at(panel)))
    return _FOUND[panel]


def within_step(panel: Panel) -> float:
    """Log evidence for effects that begin within the step against effects one step later, in nats
    in up to 20 stores, at usual shapes of responses."""
    data, config = panel.data, RegressionConfig()
    spec = calendar_spec(data, None, None)
    windows = Windows(data, Calendar(spec, data.grid), _WINDOW, 0)
    observed = observed_stores(windows, panel, _looked_at(panel))
    now = layout(data.roles, config.edge_prior, config.other_prior)
    every = range(len(data.roles))
    later = layout(data.roles, config.edge_prior, config.other_prior, reactive=every)
    return alignment_gain(observed, now, later, spec.groups, config)


def _looked_at(panel: Panel) -> NDArray[np.int64]:
    """Positions of the stores whose evidence is asked."""
    return np.arange(0, panel.n_stores, -(-panel.n_stores // _STORES))
