"""Networks saved before innovations were read, against what they answered then.

``tests/golden/prior-without-innovations.npz`` holds a small network with random weights, three
stores, and the log Bayes factors and distances that the version before innovations gave them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.nn.pretrained import PretrainedGraphs
from causalmmm.engine.prior import (
    PanelKind,
    empty_familiarity,
    empty_network,
    give_innovations_no_weight,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "prior-without-innovations.npz"


@pytest.fixture
def then() -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in np.load(GOLDEN).items()}


def loaded(then: dict[str, torch.Tensor]) -> PretrainedGraphs:
    state = {k.removeprefix("state."): v for k, v in then.items() if k.startswith("state.")}
    kind = PanelKind(("spend", "spend", "mediator", "target"), "W", state["positive"])
    parts = (
        empty_network(state["network.read.0.weight"].shape),
        empty_familiarity(state["familiarity.directions"].shape),
    )
    graphs = PretrainedGraphs(kind, ("yearly", "yearly"), *parts)
    graphs.load_state_dict(state)
    return graphs


def test_a_network_without_innovations_answers_as_it_did(then: dict[str, torch.Tensor]) -> None:
    graphs = loaded(then)
    give_innovations_no_weight(graphs.network, graphs.familiarity)
    mask = then["mask"]
    batch = Batch(
        x=then["x"],
        basis=then["basis"],
        context=then["x"][:, :0],
        context_mask=mask,
        target_mask=mask,
        store=torch.arange(len(mask)),
    )
    statistics = graphs.statistics(batch)
    torch.testing.assert_close(graphs.log_bf(statistics), then["log_bf"], rtol=1e-4, atol=1e-4)
    distance = graphs.familiarity(statistics.features)
    torch.testing.assert_close(distance, then["distance"], rtol=1e-4, atol=1e-5)
    before = {name: value.clone() for name, value in graphs.state_dict().items()}
    give_innovations_no_weight(graphs.network, graphs.familiarity)  # of today by now
    assert all(torch.equal(value, before[name]) for name, value in graphs.state_dict().items())


def test_a_network_of_other_statistics_is_refused() -> None:
    with pytest.raises(ValueError, match="reads 90 statistics, this version has 112"):
        give_innovations_no_weight(empty_network((6, 90)), empty_familiarity((180, 3)))
