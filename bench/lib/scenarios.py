"""Named scenarios with known graphs, and how datasets are drawn from them. No method, no metric.

Beside the panel, a method may use what its user would know: roles and signs of the series, never
lags, graphs or how the scenario was made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalmmm.data.panel import Panel
from causalmmm.data.schema import Schema
from causalmmm.simulation import PRESETS, SimulationConfig, Truth, simulate


@dataclass(frozen=True)
class Dataset:
    """One draw of a scenario.

    edges     bool [S, N, N], sender by receiver, in the order of ``panel.stores``
    declared  parameters of ``CausalMMM`` that a user of this panel would set
    truth     the simulator's truth; None where the law is not the simulator's
    """

    panel: Panel
    edges: NDArray[np.bool_]
    declared: dict[str, Any]
    truth: Truth | None = None


@dataclass(frozen=True)
class Scenario:
    """``law`` for the simulator, or ``draw`` (seed, stores, steps -> Dataset) for another one.

    missing  share of days without any observation, filled by linear interpolation for everyone
    """

    law: SimulationConfig | None = None
    draw: Callable[[int, int, int], Dataset] | None = None
    missing: float = 0.0


def draw(name: str, seed: int, stores: int | None = None, steps: int | None = None) -> Dataset:
    """A dataset of the scenario ``name``, of its usual size unless another is asked for."""
    if name not in SCENARIOS:
        raise ValueError(f"unknown scenario {name!r}; choose from {', '.join(SCENARIOS)}")
    scenario = SCENARIOS[name]
    if scenario.draw is not None:
        return scenario.draw(seed, stores or 300, steps or 100)
    assert scenario.law is not None
    panel, truth = simulate(scenario.law, seed=seed, stores=stores, steps=steps)
    if scenario.missing:
        panel = with_gaps(panel, scenario.missing, seed)
    return Dataset(panel, truth.edges, {}, truth)


def with_gaps(panel: Panel, share: float, seed: int) -> Panel:
    """The panel as loaded from a table in which a share of each store's days is missing."""
    frame = panel.to_frame()
    rng = np.random.default_rng([seed, 11])
    gone = rng.random(len(frame)) < share
    frame.loc[gone, list(panel.nodes)] = np.nan
    return Panel.from_frame(frame, panel.schema, nan="interpolate")


def published_law(seed: int, stores: int, steps: int) -> Dataset:
    """The law of the sample that CausalMMM's authors published, drawn for every store on its own.

    x_v(t) = sum over parents p and lags 1..7 of beta tanh(x_p(t - lag)) + N(0, 0.1^2), with beta ~
    U(-1, 1) per lag and pair, shared by the stores of an archetype. As in the sample there are 8
    series, 5 without parents and 3 that have 70 % of the series before them as parents, in 3
    archetype graphs. Series and effects take either sign, and are declared so.
    """
    rng = np.random.default_rng([seed, 13])
    channels, nodes, lags, archetypes, burn = 5, 8, 7, 3, 50
    graphs = np.triu(rng.random((archetypes, nodes, nodes)) < 0.7, 1)
    graphs[:, :, :channels] = False
    beta = rng.uniform(-1.0, 1.0, (archetypes, lags, nodes, nodes)) * graphs[:, None]
    archetype = rng.integers(archetypes, size=stores)
    store_beta = beta[archetype]  # [S, lags, N, N]
    x = 0.1 * np.random.default_rng([seed, 17]).standard_normal((stores, burn + steps, nodes))
    for t in range(burn + steps):
        for lag in range(1, min(lags, t) + 1):
            x[:, t] += np.einsum("si,sij->sj", np.tanh(x[:, t - lag]), store_beta[:, lag - 1])
    names = [f"x{k}" for k in range(nodes - 1)]
    schema = Schema.model_validate(
        {"store": "shop_id", "date": "ds", "target": "gmv", "channels": names, "freq": "D"}
    )
    panel = Panel.from_arrays(x[:, burn:], schema=schema, first_date="2024-01-01", freq="D")
    return Dataset(panel, graphs[archetype], {"signed": [("*", "*")]})


_SMALL = PRESETS["paper-small"]

# Sizes are such that all methods on all scenarios with five seeds fit into a night on two cores.
SCENARIOS: dict[str, Scenario] = {
    "paper-small": Scenario(_SMALL),
    "paper-small-1000": Scenario(_SMALL.changed(name="paper-small-1000", stores=1000)),
    "paper-large": Scenario(PRESETS["paper-large"]),
    "one-graph-per-store": Scenario(_SMALL.changed(name="one-graph-per-store", archetypes=0)),
    "cycles": Scenario(_SMALL.changed(name="cycles", cycle=3, channel_to_channel=0.12)),
    "confounded": Scenario(
        _SMALL.changed(name="confounded", demand_on_spend=0.4, demand_on_outcome=0.15)
    ),
    "long-carryover": Scenario(
        # A half-life of 20 steps; campaigns long enough to fill such a memory, and larger effects,
        # since slow responses show less: a regression on the true responses has AUROC 0.70.
        _SMALL.changed(
            name="long-carryover",
            steps=200,
            decay=(0.5**0.05, 0.5**0.05),
            campaign_steps=(20.0, 40.0),
            slope=(2.0, 4.0),
            effect_on_channel=12.0,
            effect_on_mediator=3.0,
            effect_on_target=1.5,
            effect_of_mediator=1.5,
            effect_of_target=12.0,
        )
    ),
    "weak": Scenario(
        _SMALL.changed(
            name="weak",
            effect_on_channel=2.0,
            effect_on_mediator=0.5,
            effect_on_target=0.25,
            effect_of_mediator=0.3,
            effect_of_target=2.0,
        )
    ),
    "missing": Scenario(_SMALL.changed(name="missing"), missing=0.05),
    "break": Scenario(_SMALL.changed(name="break", steps=200, break_at=0.5)),
    "lag7": Scenario(_SMALL.changed(name="lag7", decay=(0.0, 0.0), lag=(7, 7))),
    "any-lag": Scenario(_SMALL.changed(name="any-lag", decay=(0.0, 0.0), lag=(1, 7))),
    "published-law": Scenario(draw=published_law),
}
