"""Lets the tests of this folder share helper modules (``malformed``) and one fitted model."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from causalmmm import CausalMMM, Panel
from causalmmm.simulation import Truth, simulate

sys.path.insert(0, str(Path(__file__).parent))


@dataclass(frozen=True)
class Fitted:
    """A small panel with its truth, and a model fitted on all but its last 10 steps."""

    panel: Panel
    truth: Truth
    model: CausalMMM


@pytest.fixture(scope="session")
def fitted() -> Fitted:
    panel, truth = simulate("paper-small", seed=1, stores=12, steps=60, channels=3)
    model = CausalMMM(structure="learned", epochs=3, horizon=10, draws=60, seed=5, device="cpu")
    return Fitted(panel, truth, model.fit(panel.split(10)[0], progress=False))
