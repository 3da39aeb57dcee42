"""The panel and windows that the engine's tests share, and the folder's helper modules."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.spec.series import SeriesData

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "training"))

from small import three_stores, windows_of


@pytest.fixture
def data() -> SeriesData:
    """Three stores of four series, 90 days each, positive and autocorrelated."""
    return three_stores()


@pytest.fixture
def windows(data: SeriesData) -> Windows:
    return windows_of(data)
