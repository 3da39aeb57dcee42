"""Cards of a report: sentences, pictures and tables, or what to run where something is missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causalmmm import plots
from causalmmm.decisions.calibration import AGREES
from causalmmm.findings import counted
from causalmmm.plots.style import number
from causalmmm.report import sentences
from causalmmm.report.svg import svg_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from causalmmm.report.gather import Tables

_LEAST_EDGE = 0.3
_MOST_STORES = 2000  # listed in the table of stores


@dataclass(frozen=True)
class Grid:
    """A table: column heads, and rows of (text, value to sort by)."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[tuple[str, float | str], ...], ...]


@dataclass(frozen=True)
class Card:
    """A section of the page; ``missing`` says what to run where there is nothing to show."""

    id: str
    title: str
    sentences: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    grids: tuple[Grid, ...] = ()
    missing: str = ""


def cards_of(tables: Tables) -> Iterator[Card]:
    """Every card but those of single stores and of methods, in the page's order."""
    yield _data(tables)
    yield _fit(tables)
    yield _trust(tables)
    yield _graphs(tables)
    yield _contributions(tables)
    yield _returns(tables)
    yield _curves(tables)
    yield _budget(tables)
    yield _forecast(tables)
    yield _residuals(tables)
    yield _experiments(tables)


def _card(
    id: str,
    title: str,
    told: Iterable[str],
    figures: Sequence[Figure] = (),
    grids: Sequence[Grid] = (),
    missing: str = "",
) -> Card:
    pictures = tuple(svg_of(figure, f"{id}-{k}") for k, figure in enumerate(figures))
    return Card(id, title, tuple(told), pictures, tuple(grids), missing)


def _data(tables: Tables) -> Card:
    facts = tables.facts
    stores, steps = counted(facts["stores"], "store"), counted(facts["steps"], facts["step"])
    told = [
        f"{stores} ({facts['some_stores']}), {steps} from {facts['first']} to {facts['last']}; "
        f"the model was fitted on steps until {facts['trained_on']['last']}."
    ]
    if facts["hidden"]:
        hidden = counted(facts["hidden"], facts["step"])
        told.append(f"Hidden from the fit: the last {hidden}.")
    told += [f"Warning of the model: {text}." for text in facts["warnings"]]
    names = {"channel": "channel", "organic": "organic channel", "target": "target"}
    mean = tables.frames["amounts"].set_index("series")["mean"]
    rows = [
        (node, names.get(role, role), facts["measured"].get(node, "amount"), mean[node])
        for node, role in zip(facts["nodes"], facts["roles"], strict=True)
    ]
    rows += [(name, "control", "value", np.nan) for name in facts["controls"]]
    rows += [(name, "context", "value", np.nan) for name in facts["context"]]
    head = ("series", "role", "measured in", f"per {facts['step']}, {facts['whole']}, last year")
    grids = [_grid("Series of the panel", head, rows)]
    if facts["findings"]:
        found = [(f["severity"], f["message"], f["remedy"]) for f in facts["findings"]]
        grids.append(_grid("Findings in the data", ("severity", "finding", "remedy"), found))
        if facts["findings_left"]:
            told.append(f"{facts['findings_left']} more findings: causalmmm validate lists them.")
    else:
        told.append("No errors or warnings were found in the data.")
    return _card("data", "Data", told, grids=grids)


def _fit(tables: Tables) -> Card:
    target, scores = tables.facts["target"], tables.frames["accuracy"]
    told = list(sentences.accuracy(tables))
    missing = "" if tables.facts["hidden"] else (
        "accuracy on new steps. Nothing was hidden from this fit: fit again with causalmmm fit "
        "--holdout, and report with the same data."
    )  # fmt: skip
    head = ("steps", "method", "R²", "R², median store", "MAPE", "wMAPE", "in 80 %", "in 95 %")
    rows = [
        (
            *(row["steps"], row["method"], f"{row['r2']:.2f}", f"{row['r2_median']:.2f}"),
            *(_percent(row[n]) for n in ("mape", "wmape", "coverage_80", "coverage_95")),
        )
        for row in scores.to_dict("records")
    ]
    figure = plots.plot_fit(tables.frames["fit"], target=f"{target} of {tables.facts['whole']}")
    grid = _grid("Scores by store and step, beside naive forecasts", head, rows)
    return _card("fit", "Model fit", told, [figure], [grid], missing)


def _trust(tables: Tables) -> Card:
    metrics = tables.frames.get("metrics")
    title, told = "Calibration and trust", list(sentences.doubts(tables))
    if metrics is None:
        text = (
            "No tests were passed to this report: run causalmmm evaluate RUN --tests "
            "holdout,cv,refresh,perturbation,placebo -o tests.csv, then report with "
            "--metrics tests.csv."
        )
        return _card("trust", title, told, missing=text)
    told += [f"Tests: {', '.join(dict.fromkeys(map(str, metrics['test'])))}."]
    figures = []
    if "passed" in metrics:
        known = metrics[metrics["passed"].notna()]
        kept = int(known["passed"].astype(str).eq("True").sum())
        told.append(f"{kept} of {len(known)} thresholds are kept.")
        if len(known):
            figures.append(plots.plot_trust(_with_booleans(metrics)))
    elif ((metrics["series"] == tables.facts["target"]) & (metrics["metric"] == "wape")).any():
        figures.append(plots.plot_errors(metrics, series=tables.facts["target"]))
    rows = [
        ["-" if value != value else value for value in row]
        for row in metrics.astype(object).to_numpy()
    ]
    grid = _grid("Results of all tests", tuple(map(str, metrics.columns)), rows)
    return _card("trust", title, told, figures, [grid])


def _with_booleans(trust: pd.DataFrame) -> pd.DataFrame:
    """The frame of ``CausalMMM.trust``, whose ``passed`` is text after a way through a file."""
    passed = trust["passed"].map({True: True, False: False, "True": True, "False": False})
    return trust.assign(passed=passed.astype(object).where(passed.notna(), None))


def _graphs(tables: Tables) -> Card:
    import networkx as nx

    frame, facts = tables.frames["graphs"], tables.facts
    figures = []
    for group, edges in frame.groupby("group"):
        stores = int(edges["stores"].iloc[0])
        name = facts["whole"] if group == 0 else f"group {group}"
        graph: nx.DiGraph[Any] = nx.DiGraph(store=name, threshold=_LEAST_EDGE)
        if facts["stores"] > 1:
            graph.graph["stores"] = stores
        for node, role in zip(facts["nodes"], facts["roles"], strict=True):
            graph.add_node(node, role=role)
        for row in edges[edges["probability"] >= _LEAST_EDGE].to_dict("records"):
            graph.add_edge(row["source"], row["target"], probability=float(row["probability"]),
                           effect=float(row["effect"]))  # fmt: skip
        figures.append(plots.plot_graph(graph))
    fleet = frame[(frame["group"] == 0) & (frame["probability"] >= 0.1)]
    fleet = fleet.sort_values("probability", ascending=False).head(60)
    rows = [
        (r["source"], r["target"], _percent(r["probability"]), _percent(r["prior"]),
         _percent(r["share"]), (number(r["effect"]), r["effect"]))
        for r in fleet.to_dict("records")
    ]  # fmt: skip
    head = ("source", "target", "probability", "before any data", "stores that have it",
            f"effect per {facts['step']}")  # fmt: skip
    grid = _grid("Edges, mean over stores" if facts["stores"] > 1 else "Edges", head, rows)
    return _card("graphs", "Which series drive which", sentences.graphs(tables), figures, [grid])


def _contributions(tables: Tables) -> Card:
    parts, target, frames = tables.frames["parts"], tables.facts["target"], tables.frames
    whole = tables.facts["whole"]
    figures = [
        plots.plot_decomposition(parts, target=target, store=whole),
        plots.plot_waterfall(parts, target=target, store=whole),
    ]
    told, grids, missing = [sentences.drivers(tables)], [], ""
    if "paths" in frames:
        figures.append(plots.plot_paths(frames["paths"], store=whole, target=target))
        told += sentences.paths(tables)
        rows = [
            (r["channel"], r["path"], *((number(r[n]), r[n]) for n in ("mean", "lower", "upper")))
            for r in frames["paths"].to_dict("records")
        ]
        head = ("channel", "path", f"incremental {target}", "lower (90 %)", "upper (90 %)")
        grids.append(_grid("Paths, whole history", head, rows))
    else:
        missing = _needs_draws("totals through mediators, with intervals,")
    title = f"What {target} is made of"
    return _card("contributions", title, told, figures, grids, missing)


def _returns(tables: Tables) -> Card:
    frames = tables.frames
    if "roi" not in frames:
        missing = _needs_draws("Returns on spend")
        return _card("returns", "Return on spend", [], missing=missing)
    roi, whole = frames["roi"], tables.facts["whole"]
    figures = [plots.plot_roi(roi, store=whole), plots.plot_shares(roi, store=whole)]
    if tables.facts["stores"] > 1:
        figures.append(plots.plot_stores(frames["roi_stores"]))
    numbers = ("spend", "outcome", "roi", "roi_lower", "roi_upper", "mroi", "mroi_lower",
               "mroi_upper", "cpik", "effectiveness")  # fmt: skip
    head = ("channel", "spend", "share of spend", "outcome", "share of outcome", "ROI",
            "ROI, lower", "upper", "marginal ROI", "lower", "upper", "cost per unit",
            "outcome per exposure")  # fmt: skip
    rows = []
    for r in roi.to_dict("records"):
        cells: list[Any] = [(number(r[n]), r[n]) for n in numbers]
        cells.insert(1, _percent(r["spend_share"]))
        cells.insert(3, _percent(r["outcome_share"]))
        rows.append((r["channel"], *cells))
    grid = _grid(f"Returns of {whole}, 90 % intervals", head, rows)
    return _card("returns", "Return on spend", sentences.returns(tables), figures, [grid])


def _curves(tables: Tables) -> Card:
    facts, frames = tables.facts, tables.frames
    usual = _mapping(frames["amounts"], "series", "usual")
    planned = _mapping(frames["amounts"].dropna(subset="planned"), "series", "planned")
    of = "Curves add up all stores, each" if facts["stores"] > 1 else "Curves run"
    told = [
        f"{of} between no spend and twice the most that it has spent in a "
        f"{facts['step']}; dots are usual amounts: the mean of last year's {facts['step']}s in "
        "which the channel runs."
    ]
    if planned:
        told.append("Diamonds are the plan's amounts while the channel runs.")
    figures = [
        plots.plot_curves(
            frames["curves"],
            store=facts["whole"],
            target=facts["target"],
            usual=usual,
            planned=planned,
            measured=facts["measured"],
        ),
        plots.plot_adstock(frames["adstock"]),
    ]
    return _card("curves", "Response and carry-over", told, figures)


def _budget(tables: Tables) -> Card:
    frames, title = tables.frames, "Budget"
    if "budget" not in frames:
        if tables.facts["regime"] == "regression":
            text = (
                "No plan was passed: find the best one by causalmmm optimize RUN -o plan.csv (or "
                "write your own), then report with --plan plan.csv."
            )
        else:
            text = _needs_draws("Budgets")
        return _card("budget", title, [], missing=text)
    table = frames["budget"]
    rows = [
        (r["channel"], (number(r["current"]), r["current"]), (number(r["spend"]), r["spend"]),
         _percent(r["change"]))
        for r in table.to_dict("records")
    ]  # fmt: skip
    figure = plots.plot_budget(table, gain=tables.facts["gain"])
    grid = _grid("Spend of the plan", ("channel", "as last year", "plan", "change"), rows)
    return _card("budget", title, sentences.budget(tables), [figure], [grid])


def _forecast(tables: Tables) -> Card:
    facts, frames = tables.facts, tables.frames
    fit = frames["fit"]
    history = pd.Series(fit["actual"].to_numpy(float), index=pd.DatetimeIndex(fit["date"]))
    figure = plots.plot_forecast(
        frames["forecast"],
        store=facts["whole"],
        series=facts["target"],
        history=history,
        planned=facts["planned"],
        title=next(sentences.forecast(tables)).rstrip("."),
    )
    told = [*sentences.forecast(tables)]
    if facts["stores"] > 1 and facts["regime"] != "regression":
        told.append(
            "Bounds are those of single stores added up: wider than the total's unless all stores "
            "err alike."
        )
    missing = "" if facts["planned"] else (
        "the forecast under planned spend. Pass the plan with --plan plan.csv."
    )  # fmt: skip
    return _card("forecast", "Forecast", told, [figure], missing=missing)


def _residuals(tables: Tables) -> Card:
    figure = plots.plot_residuals(tables.frames["fit"], target=f"{tables.facts['target']}")
    several = tables.facts["stores"] > 1
    told = ["Residuals of all stores together; single stores err more."] if several else []
    return _card("residuals", "Residuals", told, [figure])


def _experiments(tables: Tables) -> Card:
    frame, title = tables.frames.get("experiments"), "Experiments"
    if frame is None:
        if tables.facts["regime"] != "regression":
            return _card("experiments", title, [], missing=_needs_draws("Experiments"))
        text = (
            "The model holds no experiments: take yours in by causalmmm calibrate RUN "
            "experiments.csv -o CALIBRATED, and report on that."
        )
        return _card("experiments", title, [], missing=text)
    agree = int((frame["conflict"].abs() <= AGREES).sum())
    told = [
        f"{agree} of {len(frame)} experiments agree with the panel (within {AGREES:g} standard "
        "errors); all answers of this report follow them."
    ]
    numbers = ("lift", "lift_se", "before", "before_lower", "before_upper", "after",
               "after_lower", "after_upper", "conflict")  # fmt: skip
    rows = [
        (*(str(r[n])[:10] for n in ("store", "channel", "start", "end")),
         *((number(float(r[n])), float(r[n])) for n in numbers))
        for r in frame.to_dict("records")
    ]  # fmt: skip
    head = ("store", "channel", "start", "end", "measured lift", "standard error",
            "panel alone", "lower", "upper", "calibrated", "lower", "upper",
            "conflict, standard errors")  # fmt: skip
    return _card("experiments", title, told, grids=[_grid("Lift, 90 % intervals", head, rows)])


def store_grid(tables: Tables) -> Grid:
    """A row per store, largest first."""
    frame = tables.frames["stores"].sort_values("total", ascending=False).head(_MOST_STORES)
    columns = {"store": "store", "group": "group", "total": tables.facts["target"],
               "wmape": "wMAPE, fitted", "wmape_hidden": "wMAPE, hidden", "spend": "spend",
               "outcome": "outcome", "roi": "ROI", "roi_lower": "lower (90 %)",
               "roi_upper": "upper (90 %)", "mroi": "marginal ROI"}  # fmt: skip
    shown = [name for name in columns if name in frame]
    rows = []
    for record in frame.to_dict("records"):
        cells: list[Any] = [str(record["store"])]
        for name in shown[1:]:
            value = float(record[name])
            text = f"{value:.1%}" if name.startswith("wmape") else number(value)
            cells.append((text, value))
        rows.append(tuple(cells))
    caption = "Stores, largest first"
    if len(tables.frames["stores"]) > _MOST_STORES:
        caption += f"; the largest {_MOST_STORES:,} of {len(tables.frames['stores']):,}"
    return _grid(caption, tuple(columns[name] for name in shown), rows)


def _needs_draws(what: str) -> str:
    return (
        f"{what} need joint draws of effects, which the amortised model does not have: fit with "
        "regime: regression (causalmmm fit --set model.regime=regression)."
    )


def _grid(caption: str, head: tuple[str, ...], rows: Sequence[Sequence[Any]]) -> Grid:
    """Cells are texts, numbers, or (text, value to sort by)."""
    return Grid(caption, head, tuple(tuple(map(_cell, row)) for row in rows))


def _cell(value: Any) -> tuple[str, float | str]:
    if isinstance(value, tuple):
        text, at = value
        return text, "" if at != at else float(at)
    if isinstance(value, float):
        return number(value), "" if value != value else value
    return str(value), str(value)


def _mapping(frame: pd.DataFrame, key: str, value: str) -> dict[str, float]:
    return {str(k): float(v) for k, v in frame[[key, value]].to_numpy()}


def _percent(value: float) -> tuple[str, float]:
    return ("-" if value != value else f"{value:.1%}"), float(value)
