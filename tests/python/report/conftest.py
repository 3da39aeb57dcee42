"""One small fitted model, its tables and its page, shared by the tests of reports."""

from __future__ import annotations

import copy
import sys
import warnings
from pathlib import Path

import pandas as pd
import pytest

from causalmmm import CausalMMM, Panel
from causalmmm.report import Tables, gather, write_page
from causalmmm.simulation import simulate

sys.path.insert(0, str(Path(__file__).parent))

HIDDEN = 8


@pytest.fixture(scope="package")
def weekly() -> tuple[CausalMMM, Panel]:
    """A regression fitted on all but the last weeks of a panel."""
    panel, _ = simulate("weekly-mmm", seed=3, stores=3, steps=90)
    return CausalMMM(seed=0, horizon=6).fit(panel.split(HIDDEN)[0], progress=False), panel


@pytest.fixture(scope="package")
def planned(weekly: tuple[CausalMMM, Panel]) -> pd.DataFrame:
    """Six weeks at one and a half times last year's mean."""
    model, panel = weekly
    plan = model.optimize(6, panel=panel, bounds=dict.fromkeys(panel.schema.channels, (1, 1))).plan
    spend = [c.spend for c in panel.schema.channels.values()]
    plan[spend] *= 1.5
    return plan.assign(**dict.fromkeys(panel.control_names, 0.0))


@pytest.fixture(scope="package")
def calibrated(weekly: tuple[CausalMMM, Panel]) -> CausalMMM:
    """The model after two experiments, one of which contradicts the panel."""
    model, panel = weekly
    dates = {"start": "2022-06-06", "end": "2022-08-28"}
    rows = [("ALL", "x0", 1.0, 1e6), (str(panel.stores[1]), "x2", 1e6, 1.0)]
    table = pd.DataFrame(rows, columns=["store", "channel", "lift", "lift_se"]).assign(**dates)
    with_experiments = copy.copy(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with_experiments.calibrate(table, panel)
    return with_experiments


@pytest.fixture(scope="package")
def tables(
    weekly: tuple[CausalMMM, Panel],
    planned: pd.DataFrame,
    tmp_path_factory: pytest.TempPathFactory,
) -> Tables:
    model, panel = weekly
    records = tmp_path_factory.mktemp("report") / "stores.jsonl.gz"
    return gather(model, panel, records, plan=planned)


@pytest.fixture(scope="package")
def page_file(tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "report.html"
    return write_page(tables, out, "Our <report>")


@pytest.fixture(scope="package")
def page(page_file: Path) -> str:
    return page_file.read_text(encoding="utf-8")
