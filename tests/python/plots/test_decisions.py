"""Pictures of returns, paths, budgets and stores show the numbers of their frames."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from causalmmm.plots import (
    plot_budget,
    plot_errors,
    plot_paths,
    plot_roi,
    plot_shares,
    plot_stores,
)
from causalmmm.plots.style import INK, PALETTE


def returns(stores: int = 1) -> pd.DataFrame:
    rows = []
    for s in range(stores):
        for channel, roi, spend in (("tv", 2.0 + s, 0.25), ("web", 0.5, 0.75), ("radio", np.nan, 0),
                                    ("all channels", 0.875, 1.0)):  # fmt: skip
            row = {"store": f"s{s}", "channel": channel, "spend_share": spend, "roi": roi}
            row |= {"outcome_share": roi * spend / 0.875, "mroi": roi / 2}
            for kind in ("roi", "mroi"):
                row |= {f"{kind}_lower": row[kind] * 0.8, f"{kind}_upper": row[kind] * 1.5}
            rows.append(row)
    return pd.DataFrame(rows)


def heading(figure: object) -> str:
    return str(figure.texts[0].get_text())  # type: ignore[attr-defined]


def test_returns_have_points_intervals_and_a_line_where_money_comes_back() -> None:
    figure = plot_roi(returns(), store="s0")
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["tv", "web", "all channels"]
    spans = [tuple(np.ravel(line.get_xdata())) for line in axes.lines]
    assert spans[:4] == [(1.6, 3.0), (2.0,), (0.8, 1.5), (1.0,)]  # ROI, then marginal ROI
    assert (1.0, 1.0) in [tuple(map(float, s)) for s in spans if len(s) == 2]
    colours = [to_hex(line.get_color()) for line in axes.lines]
    assert colours[0] == PALETTE[0]
    assert colours[4] == PALETTE[1]
    assert colours[8] == INK
    assert heading(figure) == "tv returns most in s0: 2 per unit of spend"
    assert axes.get_xlabel() == "incremental outcome / spend"
    with pytest.raises(KeyError, match="no returns of 's9'"):
        plot_roi(returns(), store="s9")


def test_shares_of_spend_stand_beside_those_of_outcome() -> None:
    figure = plot_shares(returns(), store="s0")
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == pytest.approx([0.5 / 0.875, 0.375 / 0.875, 0, 0.25, 0.75, 0])
    assert heading(figure) == "tv has 25% of the spend of s0 and 57% of its outcome"


def test_stores_are_dots_around_their_median() -> None:
    figure = plot_stores(returns(3))
    dots = figure.axes[0].lines[0]
    assert list(dots.get_xdata()) == [2, 3, 4]
    assert list(figure.axes[0].lines[1].get_xdata()) == [3, 3]
    assert heading(figure) == "Stores differ most in their return on tv"


def test_paths_are_stacked_to_their_total() -> None:
    ways = {"tv -> sales": 6.0, "tv -> visits -> sales": 2.0, "total": 8.0}
    rows = [("tv", path, value) for path, value in ways.items()]
    rows += [("web", "web -> sales", 2.0), ("web", "web -> visits -> sales", 0.0)]
    rows += [("web", "total", 2.0), ("interaction", "total", -1.0), ("all channels", "total", 9.0)]
    frame = pd.DataFrame(rows, columns=["channel", "path", "mean"]).assign(store="all stores")
    frame = frame.assign(lower=frame["mean"] - 1, upper=frame["mean"] + 1)
    figure = plot_paths(frame, store="all stores", target="sales")
    bars = [(b.get_x(), b.get_width()) for b in figure.axes[0].patches]
    assert bars == [(0, 6), (6, 2), (0, 2), (2, 0)]
    assert list(figure.axes[0].lines[0].get_xdata()) == [7, 9]
    assert heading(figure) == "20% of what channels bring in all stores comes through mediators"


def test_a_budget_shows_spend_before_and_after_and_what_it_gains() -> None:
    channels = pd.DataFrame(
        {
            "channel": ["tv", "web", "all channels"],
            "current": [40.0, 60.0, 100.0],
            "spend": [70.0, 30.0, 100.0],
            "change": [0.75, -0.5, 0.0],
        }
    )
    gain = {"mean": 12_000.0, "lower": 4_000.0, "upper": 21_000.0}
    figure = plot_budget(channels, gain=gain)
    assert [b.get_width() for b in figure.axes[0].patches] == [70, 30, 40, 60]
    assert heading(figure) == "Moving 30% of the budget adds 12 k (90 %: 4,000 to 21 k)"
    labels = [t.get_text() for t in figure.axes[0].texts]
    assert labels == ["70 +75%", "30 -50%"]


def test_errors_stand_beside_naive_ones_at_the_longest_horizon() -> None:
    rows = [("causalmmm", 1, 0.9), ("causalmmm", 13, 0.05), ("store mean", 13, 0.25)]
    frame = pd.DataFrame(rows, columns=["method", "horizon", "value"])
    frame = frame.assign(series="sales", metric="wape")
    figure = plot_errors(frame, series="sales")
    assert [b.get_width() for b in figure.axes[0].patches] == [0.05, 0.25]
    assert heading(figure) == "Forecasts of sales err by 5.0%, less than naive ones (25.0%)"
    frame["value"] = [0.9, 0.3, 0.25]
    assert "not less" in heading(plot_errors(frame, series="sales"))
    with pytest.raises(KeyError, match="no errors of 'visits'"):
        plot_errors(frame, series="visits")
