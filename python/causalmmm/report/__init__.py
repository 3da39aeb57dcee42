"""The report: one self-contained HTML page that a marketing team reads, prints and forwards.

``gather`` asks the model, a block of stores at a time, and keeps tables; ``cards`` turns tables
into sentences and pictures; ``page`` writes the file. Nothing is fitted here.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from causalmmm.report.gather import Tables, gather
from causalmmm.report.page import check_packages, write_page

if TYPE_CHECKING:
    import pandas as pd

    from causalmmm.data.panel import Panel
    from causalmmm.model.estimator import CausalMMM

__all__ = ["write_report", "gather", "write_page", "check_packages", "Tables"]


def write_report(
    model: CausalMMM,
    panel: Panel,
    out: str | Path,
    *,
    title: str | None = None,
    horizon: int | None = None,
    plan: pd.DataFrame | None = None,
    metrics: pd.DataFrame | None = None,
    tables: str | Path | None = None,
) -> Path:
    """Write the report of a fitted model on a panel to one HTML file; returns its path.

    title    heading of the page; default: names the target.
    tables   folder to which the tables behind the page are written as well, as CSV and JSON.

    The other arguments are those of :func:`gather`. Cards that the model cannot fill, or whose data
    nobody passed, say what to run. ``ImportError`` names the extra to install where matplotlib,
    jinja2 or plotly is missing.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_report(model, panel, Path(folder) / "report.html").name
    'report.html'
    """
    check_packages()
    with tempfile.TemporaryDirectory() as folder:
        made = gather(
            model,
            panel,
            Path(folder) / "stores.jsonl.gz",
            horizon=horizon,
            plan=plan,
            metrics=metrics,
        )
        if tables is not None:
            made.save(Path(tables))
        return write_page(made, Path(out), title or f"What drives {panel.nodes[-1]}")
