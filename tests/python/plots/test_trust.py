"""The picture of trust shows how much of each threshold is used up, and what was missed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from causalmmm.plots import plot_trust
from causalmmm.plots.style import NEGATIVE, POSITIVE

ROWS = [
    ("holdout", "wMAPE", 0.03, np.nan, 0.15, True),
    ("holdout", "wMAPE of store mean", 0.09, np.nan, np.nan, pd.NA),
    ("holdout", "R2, median store", 0.7, 0.8, np.nan, False),
    ("holdout", "coverage of 80 % intervals", 0.75, 0.7, 0.9, True),
    ("cv", "not run", np.nan, np.nan, np.nan, pd.NA),
    ("refresh", "ROI change, mean channel", 0.9, np.nan, 0.15, False),
    ("placebo", "copies with a sure effect", 0.0, np.nan, 0.0, True),
    ("future-spend", "copies with a sure effect", 1.0, np.nan, 0.0, False),
]


def trust() -> pd.DataFrame:
    names = ["test", "measure", "value", "at_least", "at_most", "passed"]
    return pd.DataFrame(ROWS, columns=names).astype({"passed": "boolean"})


def test_points_lie_where_thresholds_put_them() -> None:
    figure = plot_trust(trust())
    (axes,) = figure.axes
    points = [line for line in axes.lines if len(line.get_xdata()) == 1]
    used = [float(line.get_xdata()[0]) for line in points]
    assert used == pytest.approx([0.2, 1.5, 0.5, 2.0, 0.0, 2.0])
    colours = [to_hex(line.get_color()) for line in points]
    assert [c == POSITIVE for c in colours] == [True, False, True, False, True, False]
    assert {*colours} == {POSITIVE, NEGATIVE}
    assert [line.get_marker() for line in points] == ["o", "o", "o", ">", "o", ">"]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[0] == "holdout: wMAPE"
    assert names[3] == "cv"
    assert len(names) == 7, "naive rows have no threshold"
    texts = [text.get_text() for text in axes.texts]
    assert "not run" in texts
    assert "0.03  (≤ 0.15)" in texts
    assert "0.7  (≥ 0.8)" in texts
    assert "0.75  (0.7 to 0.9)" in texts


def test_the_title_names_what_was_missed() -> None:
    heading = plot_trust(trust()).texts[0].get_text()
    assert heading == (
        "3 of 6 measures keep their thresholds; missed in holdout, refresh, future-spend"
    )
    assert plot_trust(trust()[:1]).texts[0].get_text() == "1 of 1 measures keep their thresholds"
    with pytest.raises(ValueError, match="no measure of this frame has a threshold"):
        plot_trust(trust()[1:2])
