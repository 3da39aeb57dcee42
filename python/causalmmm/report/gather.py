"""Tables behind a report: everything that is asked of the model, a block of stores at a time.

Memory is bounded in the number of stores: of single stores only a short record is kept, on disk.
Blocks are asked about on as many threads as torch may use, and added up in the panel's order.
"""

from __future__ import annotations

import copy
import platform
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalmmm.decisions.in_order import MOST_THREADS, in_order
from causalmmm.decisions.period import (
    Period,
    last_year,
    recent_steps,
    store_means,
    usual_amounts,
)
from causalmmm.decisions.tables import Returns, joined_returns
from causalmmm.engine.nn.model import CausalModel
from causalmmm.extras import package_version
from causalmmm.findings import Finding, first_few
from causalmmm.model.fleet import Fleet
from causalmmm.report.accuracy import Accuracy
from causalmmm.report.budgets import plan_beside_last_year, planned_amounts
from causalmmm.report.clusters import clustered
from causalmmm.report.experiments import experiments_of
from causalmmm.report.records import Records, Timeline

if TYPE_CHECKING:
    from causalmmm.data.panel import Panel
    from causalmmm.model.estimator import CausalMMM

Answer = TypeVar("Answer")
ALL_STORES = "all stores"
POINTS = 13  # of a response curve
_STORES_AT_ONCE = 64
_LEVELS = (80, 95)
_LISTED = 0.1  # edges of a lower probability are not kept store by store
_SHOWN_SETTINGS = ("regime", "horizon", "prior", "seed", "draws", "holidays", "forbidden",
                   "required", "signed", "edge_prior")  # fmt: skip


@dataclass
class Tables:
    """What a report shows.

    facts    names, dates, settings, findings, versions: JSON values.
    frames   fleet tables by name, and tables with a row per store; those that the model cannot
             answer, or that nobody asked for, are missing.
    records  file of one JSON line per store for the store picker, after one of all stores (gzip).

    >>> from pathlib import Path
    >>> tables = gather(model, panel, Path("stores.jsonl.gz"), horizon=4)
    >>> tables.facts["target"], "roi" in tables.frames
    ('gmv', True)
    """

    facts: dict[str, Any]
    frames: dict[str, pd.DataFrame]
    records: Path

    def save(self, folder: Path) -> None:
        """Every frame as CSV, and the facts as JSON, into a folder."""
        import json

        folder.mkdir(parents=True, exist_ok=True)
        for name, frame in self.frames.items():
            frame.to_csv(folder / f"{name}.csv", index=False)
        text = json.dumps(self.facts, indent=1, default=str, ensure_ascii=False)
        (folder / "facts.json").write_text(text + "\n", encoding="utf-8")


def gather(
    model: CausalMMM,
    panel: Panel,
    records: Path,
    *,
    horizon: int | None = None,
    plan: pd.DataFrame | None = None,
    metrics: pd.DataFrame | None = None,
) -> Tables:
    """Ask a fitted model everything that a report shows of a panel.

    records      file to write the records of single stores to.
    horizon      steps to forecast; default: the plan's, or the model's ``horizon_``.
    plan         a plan of spend, as ``predict`` takes it: what to forecast under, and to compare
                 with going on as last year.
    metrics      what ``evaluate`` or ``trust`` returned, to be shown.

    Experiments are those that ``calibrate`` took into the model.

    >>> from pathlib import Path
    >>> gather(model, panel, Path("records.jsonl.gz"), horizon=4).facts["horizon"]
    4
    """
    asked = _Gathering(model, panel, records, horizon, plan)
    with warnings.catch_warnings():  # of a plan beyond history: it has happened
        warnings.simplefilter("ignore", UserWarning)
        asked.ask_hidden()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        asked.ask_stores()
        if model.regime_ == "regression":
            asked.ask_decisions()
        frames = asked.finish()
    if metrics is not None:
        frames["metrics"] = metrics
    facts = _facts(model, panel)
    told = [str(w.message) for w in caught if w.category is UserWarning]
    facts |= {"warnings": sorted(set(told)), "planned": plan is not None}
    facts |= {"hidden": asked.hidden, "horizon": asked.steps, "gain": asked.gain}
    facts["plan_doubts"] = [f"{finding.message} {finding.remedy}" for finding in asked.doubts]
    facts |= {"span": asked.timeline.span, "spans": asked.timeline.dates}
    return Tables(facts, frames, records)


@dataclass(frozen=True)
class _Answers:
    """What is answered about a block of stores."""

    parts: pd.DataFrame
    edges: pd.DataFrame
    curves: pd.DataFrame
    forecast: pd.DataFrame
    returns: Returns | None
    fleet: Fleet


@dataclass
class _Gathering:
    """Sums over stores, filled block by block."""

    model: CausalMMM
    panel: Panel
    file: Path
    horizon: int | None
    plan: pd.DataFrame | None
    frames: dict[str, pd.DataFrame] = field(default_factory=dict)
    gain: dict[str, float] | None = None
    doubts: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        panel = self.panel
        self.steps = self.horizon or _plan_steps(self.plan, panel) or self.model.horizon_
        grid = panel.data.grid
        self.hidden = int((grid.astype("datetime64[D]") > _last_day(self.model)).sum())
        level = panel.lengths.min() > self.hidden and len(set(panel.data.start)) == 1
        if not level or len(set(panel.lengths)) > 1:
            self.hidden = 0  # ragged histories end on different dates
        self.timeline = Timeline(grid, panel.freq)
        self.components: list[str] = []
        self.parts = np.zeros((len(grid), len(panel.nodes) + 2))
        self.forecast: pd.DataFrame | None = None
        self.curves: pd.DataFrame | None = None
        self.probability: list[np.ndarray[Any, Any]] = []
        self.effect: list[np.ndarray[Any, Any]] = []
        self.rows: list[dict[str, Any]] = []
        self.accuracy = Accuracy(panel, self.hidden)
        self.mean, self.usual = np.zeros((2, len(panel.nodes)))
        self.returns: list[Returns] = []
        self.fleet = Fleet()
        self.expected: list[pd.DataFrame] = []  # of the hidden steps, block by block

    def ask_hidden(self) -> None:
        """Forecasts of the steps after the fit."""
        if self.hidden:
            self.expected = list(self._asked(self._hidden_forecast))

    def ask_stores(self) -> None:
        """Graphs, decompositions, curves and forecasts of every block."""
        self.records = Records(self.file, self.timeline, self.panel)
        expected = iter(self.expected)
        for block, answers in zip(_blocks(self.panel), self._asked(self._ask), strict=True):
            self._add(block, answers, next(expected, None))

    def _asked(self, ask: Callable[[Panel], Answer]) -> Iterator[Answer]:
        """What is answered about every block, in order."""
        # the amortised model spreads one block over the threads itself, or uses a GPU
        several = self.model.regime_ == "regression"
        return in_order(ask, _blocks(self.panel), MOST_THREADS if several else 1)

    def _ask(self, block: Panel) -> _Answers:
        model, fleet = copy.copy(self.model), Fleet()  # a copy, as ``sharing`` is a model's own
        with model.sharing():
            forecast = model.predict(block, self.steps, self._plan_of(block), _LEVELS, fleet=fleet)
            return _Answers(
                parts=model.decompose(block),
                edges=model.graphs(block),
                curves=model.response_curves(panel=block, points=POINTS, fleet=fleet),
                forecast=forecast[forecast["series"] == block.nodes[-1]],
                returns=model.returns(block) if model.regime_ == "regression" else None,
                fleet=fleet,
            )

    def _add(self, block: Panel, answers: _Answers, expected: pd.DataFrame | None) -> None:
        if answers.returns is not None:
            self.returns.append(answers.returns)
        fitted = self._add_parts(block, answers.parts)
        self._add_edges(block, answers.edges)
        self.curves = _added(self.curves, answers.curves, ["channel"], POINTS)
        self.forecast = _added(self.forecast, answers.forecast, ["date"], self.steps)
        self.fleet.add_all(answers.fleet)
        self._add_amounts(block)
        self.accuracy.add(block, fitted, expected)
        self.records.add(
            block, answers.parts, answers.edges, answers.curves, answers.forecast, _LISTED
        )

    def _plan_of(self, block: Panel) -> pd.DataFrame | None:
        store = self.panel.schema.store
        if self.plan is None or store is None:
            return self.plan
        return self.plan[self.plan[store].astype(str).isin(set(block.stores.tolist()))]

    def _add_parts(self, block: Panel, parts: pd.DataFrame) -> list[Any]:
        """Add a block's components up; returns [rows, 2] of expected and actual by store."""
        self.components = list(dict.fromkeys(parts["component"].iloc[: len(block.nodes) + 2]))
        values = parts["value"].to_numpy(float).reshape(-1, len(self.components))
        place = np.searchsorted(self.panel.data.grid, parts["date"].to_numpy()[:: len(
            self.components)].astype(self.panel.data.grid.dtype))  # fmt: skip
        np.add.at(self.parts, place, values)
        counts = parts.groupby("store", sort=False).size().to_numpy() // len(self.components)
        fitted = np.stack([values[:, :-1].sum(1), values.sum(1)], 1)
        return np.split(fitted, np.cumsum(counts)[:-1])

    def _add_edges(self, block: Panel, edges: pd.DataFrame) -> None:
        pairs = len(block.nodes) * (len(block.nodes) - 1)
        for name, kept in (("probability", self.probability), ("effect", self.effect)):
            kept.append(edges[name].to_numpy(np.float32).reshape(-1, pairs))
        self.pairs = edges[["source", "target"]].iloc[:pairs]

    def _add_amounts(self, block: Panel) -> None:
        """Amount per step of every series over the last year, summed over stores: of all steps,
        and of those in which it runs."""
        recent = last_year(block)
        self.mean += store_means(recent, recent.data.values).sum(0)
        self.usual += usual_amounts(block).sum(0)

    def _hidden_forecast(self, block: Panel) -> pd.DataFrame:
        """Forecast of the target after the fit, given the spend and controls that happened."""
        history, future = block.split(self.hidden)
        known = future.to_frame().drop(columns=_unknown_ahead(block))
        forecast = self.model.predict(history, self.hidden, plan=known, level=_LEVELS)
        return forecast[forecast["series"] == block.nodes[-1]]

    def ask_decisions(self) -> None:
        """Returns, paths, the plan beside last year, experiments beside the model's answer."""
        recent = recent_steps(self.panel, int(self.model.window))
        found = joined_returns(self.returns, recent, Period.of(recent, None, None))
        self.frames |= {"roi": found.total, "roi_stores": found.stores, "paths": found.paths}
        if self.plan is not None:
            beside = plan_beside_last_year(self.model, self.panel, self.plan)
            if beside is not None:
                self.frames["budget"], self.gain, self.doubts = beside
        experiments = experiments_of(self.model, self.panel)
        if experiments is not None:
            self.frames["experiments"] = experiments

    def finish(self) -> dict[str, pd.DataFrame]:
        """The tables, from sums over all blocks; closes the file of records."""
        nodes, panel = self.panel.nodes, self.panel
        probability, effect = np.concatenate(self.probability), np.concatenate(self.effect)
        label, graphs = clustered(probability, effect, self.pairs)
        prior = edge_prior(self.model)[~np.eye(len(nodes), dtype=bool)]
        self.frames["graphs"] = graphs.assign(prior=np.tile(prior, len(graphs) // len(prior)))
        self.frames["parts"] = self._fleet_parts()
        self.frames["fit"], self.frames["accuracy"] = self.accuracy.tables()
        self._bound_sums()
        if self.curves is not None and self.forecast is not None:
            self.frames["curves"] = self.curves.assign(store=ALL_STORES)
            self.frames["forecast"] = self.forecast.assign(store=ALL_STORES, series=nodes[-1])
        self.frames["adstock"] = self.model.adstock()
        amounts = pd.DataFrame({"series": nodes, "mean": self.mean, "usual": self.usual})
        planned = {} if self.plan is None else planned_amounts(panel, self.plan)
        self.frames["amounts"] = amounts.assign(planned=[planned.get(n, np.nan) for n in nodes])
        self.frames["stores"] = self._store_rows(label)
        fleet = {name: self.frames.get(name) for name in ("parts", "forecast", "curves", "roi")}
        self.records.close(fleet, self.frames.get("roi_stores"), panel.stores, label)
        for name in ("parts", "curves", "forecast", "roi", "paths"):
            if name in self.frames:
                self.frames[name] = self.frames[name].assign(store=_whole(panel))
        return self.frames

    def _bound_sums(self) -> None:
        """Bounds of all stores' forecast and curves, from sums of joint draws where there are some;
        else they stay the sums of the stores' bounds."""
        if self.forecast is not None and "forecast" in self.fleet:
            for level in _LEVELS:
                shares = (0.5 - level / 200, 0.5 + level / 200)
                ends = self.fleet.quantiles("forecast", shares)
                self.forecast[f"lower_{level}"], self.forecast[f"upper_{level}"] = ends
        if self.curves is not None and "curves" in self.fleet:
            channels = [self.panel.nodes.index(c) for c in self.curves["channel"].iloc[::POINTS]]
            ends = self.fleet.quantiles("curves", (0.05, 0.95))[:, channels]  # [2, C, G]
            self.curves["lower"], self.curves["upper"] = ends.reshape(2, -1)

    def _fleet_parts(self) -> pd.DataFrame:
        seen = np.flatnonzero(np.abs(self.parts).sum(1) > 0)
        dates = np.repeat(self.panel.data.grid[seen].astype("datetime64[ns]"), len(self.components))
        names = np.tile(np.array(self.components, object), len(seen))
        columns = {"store": ALL_STORES, "date": dates, "component": names}
        return pd.DataFrame({**columns, "value": self.parts[seen].ravel()})

    def _store_rows(self, label: np.ndarray[Any, Any]) -> pd.DataFrame:
        """A row per store: size, fit, cluster, and its return where there is one."""
        table = self.accuracy.by_store
        if label.any():
            table["group"] = label + 1
        returns = self.frames.get("roi_stores")
        if returns is not None:
            whole = returns[returns["channel"] == "all channels"].set_index("store")
            for name in ("spend", "outcome", "roi", "roi_lower", "roi_upper", "mroi"):
                table[name] = table["store"].map(whole[name])
        return table


def _added(
    total: pd.DataFrame | None, block: pd.DataFrame, keys: list[str], steps: int
) -> pd.DataFrame:
    """Sum over stores of frames whose rows have the same order in every store."""
    numbers = block.select_dtypes("number").columns
    rows = len(block) // block["store"].nunique()
    values = block[numbers].to_numpy(float).reshape(-1, rows, len(numbers)).sum(0)
    summed = block[keys].iloc[:rows].reset_index(drop=True)
    summed[list(numbers)] = values
    if total is not None:
        summed[list(numbers)] += total[list(numbers)].to_numpy(float)
    return summed


def _blocks(panel: Panel) -> Iterator[Panel]:
    names = panel.stores.tolist()
    for begin in range(0, len(names), _STORES_AT_ONCE):
        yield panel.select(names[begin : begin + _STORES_AT_ONCE])


def edge_prior(model: CausalMMM) -> NDArray[np.float64]:
    """[N, N]: probability of every edge before any data, as the fit took it."""
    fitted = model.model_
    if isinstance(fitted, CausalModel):
        return fitted.encoder.log_prior[..., 1].exp().double().cpu().numpy()
    own = fitted.layout.prior.double()
    return (own if fitted.edges is None else fitted.edges.before_data(own)).numpy()


def _whole(panel: Panel) -> str:
    """What all stores of a panel are called: a single one by its name."""
    return ALL_STORES if panel.n_stores > 1 else str(panel.stores[0])


def _last_day(model: CausalMMM) -> np.datetime64:
    return np.datetime64(model.trained_on_["last"], "D")


def _plan_steps(plan: pd.DataFrame | None, panel: Panel) -> int:
    return 0 if plan is None else len(plan) // panel.n_stores


def _unknown_ahead(panel: Panel) -> list[str]:
    """Columns that nobody plans: organic series, mediators, the target, money and people."""
    schema = panel.schema
    unknown = [n for n, role in zip(panel.nodes, panel.data.roles, strict=True)
               if role != "channel"]  # fmt: skip
    extra = [schema.revenue_per_target, schema.population, *schema.context]
    given = set(panel.to_frame(panel.stores[:1].tolist()).columns)
    return [name for name in [*unknown, *extra] if name in given]


def _facts(model: CausalMMM, panel: Panel) -> dict[str, Any]:
    grid, schema = panel.data.grid.astype("datetime64[D]"), panel.schema
    settings = {k: v for k, v in model.get_params().items() if k in _SHOWN_SETTINGS and v}
    findings = [
        {"severity": f.severity, "code": f.code, "message": f.message, "remedy": f.remedy}
        for f in panel.report
        if f.severity != "notice"
    ]
    return {
        "stores": panel.n_stores,
        "whole": _whole(panel),
        "steps": len(grid),
        "first": str(grid[0]),
        "last": str(grid[-1]),
        "freq": panel.freq,
        "step": {"D": "day", "W": "week", "M": "month"}[panel.freq[0]],
        "nodes": panel.nodes,
        "roles": list(panel.data.roles),
        "target": panel.nodes[-1],
        "measured": {n: c.exposure or "spend" for n, c in schema.channels.items()},
        "money": schema.revenue_per_target is not None,
        "controls": panel.control_names,
        "context": panel.context_names,
        "regime": model.regime_,
        "trained_on": dict(model.trained_on_),
        "doubts": list(model.warnings_),
        "settings": settings,
        "findings": findings[:50],
        "findings_left": max(0, len(findings) - 50),
        "notices": len(panel.report.notices),
        "versions": {"causalmmm": package_version(), "python": platform.python_version(),
                     **_versions("torch", "numpy", "pandas")},
        "some_stores": first_few(panel.stores.tolist()),
    }  # fmt: skip


def _versions(*packages: str) -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in packages}
