"""Values that are legal and hardly meant are warned about, once; usual panels are left in peace."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalmmm.data.validation import validate
from causalmmm.findings import Finding
from causalmmm.simulation import simulate

SCHEMA = {
    "store": "store",
    "date": "date",
    "target": "sales",
    "channels": {name: {"spend": name} for name in ("tv", "search", "radio")},
}
STEPS, STORES = 80, 3


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frames = []
    for k in range(STORES):
        columns = {name: rng.lognormal(4, 1.0, STEPS) for name in ("tv", "search", "radio")}
        columns["radio"] *= rng.random(STEPS) < 0.4
        sales = 1000 + rng.normal(0, 50, STEPS) + columns["tv"]
        dates = pd.date_range("2024-01-01", periods=STEPS)
        frames.append(pd.DataFrame({"store": f"s{k}", "date": dates, **columns, "sales": sales}))
    return pd.concat(frames, ignore_index=True)


def said(table: pd.DataFrame) -> list[Finding]:
    return [f for f in validate(table, SCHEMA) if f.severity != "notice"]


def test_an_ordinary_table_is_left_in_peace(table: pd.DataFrame) -> None:
    assert said(table) == []


@pytest.mark.parametrize("preset", ["weekly-mmm", "airmmm", "paper-small"])
def test_simulated_panels_are_left_in_peace(preset: str) -> None:
    panel, _ = simulate(preset, seed=0, stores=4)
    codes = {f.code for f in validate(panel.to_frame(), panel.schema)}
    assert not codes & {"far-outside", "repeated-spend", "collinear-spend"}


@pytest.mark.parametrize("column", ["tv", "radio", "sales"])
def test_cells_in_another_unit_are_named(table: pd.DataFrame, column: str) -> None:
    running = table.index[(table["store"] == "s1") & (table[column] > 0)]
    table.loc[running[3:6], column] = 1000 * table[column].median() + 1000 * table[column].max()
    (finding,) = said(table)
    assert (finding.code, finding.column, finding.store) == ("far-outside", column, "s1")
    assert finding.rows == 3
    assert finding.date == str(table.loc[running[3], "date"].date())


def test_a_national_figure_in_every_store_is_told_once(table: pd.DataFrame) -> None:
    for name in ("tv", "search"):
        table[name] = np.tile(table.loc[table["store"] == "s0", name], STORES)
    (finding,) = said(table)
    assert finding.code == "repeated-spend"
    assert finding.rows == 2
    assert "'tv'" in finding.message
    assert "'search'" in finding.message


def test_one_store_has_nothing_to_repeat(table: pd.DataFrame) -> None:
    assert said(table[table["store"] == "s0"]) == []


def test_spends_that_move_together_are_told_once(table: pd.DataFrame) -> None:
    rng = np.random.default_rng(1)
    table["search"] = 0.4 * table["tv"] * rng.lognormal(0, 0.05, len(table))
    table["radio"] = 0.1 * table["tv"] * rng.lognormal(0, 0.05, len(table))
    (finding,) = said(table)
    assert finding.code == "collinear-spend"
    assert finding.rows == 3
