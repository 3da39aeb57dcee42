"""The panel and windows that the engine's tests share, and the folder's helper modules."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.spec.calendar import Calendar, CalendarSpec
from causalmmm.engine.spec.series import SeriesData

sys.path.insert(0, str(Path(__file__).parent))

from small import CONTEXT, MEMORY, NODES


@pytest.fixture
def data() -> SeriesData:
    """Three stores of four series, 90 days each, positive and autocorrelated."""
    rng = np.random.default_rng(0)
    values = np.exp(rng.standard_normal((270, NODES)) * 0.4) * [20.0, 50.0, 5.0, 400.0]
    return SeriesData(
        values=values.astype(np.float32),
        offsets=np.array([0, 90, 180, 270]),
        start=np.zeros(3, np.int64),
        grid=np.datetime64("2024-03-01") + np.arange(90),
        freq="D",
        roles=("channel", "channel", "mediator", "target"),
        controls=np.zeros((270, 0), np.float32),
        context=rng.standard_normal((3, CONTEXT)).astype(np.float32),
    )


@pytest.fixture
def windows(data: SeriesData) -> Windows:
    return Windows(data, Calendar(CalendarSpec("D", yearly=1), data.grid), 730, MEMORY)
