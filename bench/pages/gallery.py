"""Every picture of the package on one page, drawn from one small simulated panel.

``python -m bench.pages.gallery`` writes docs/gallery.md and docs/gallery/*.png in a minute.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from causalmmm import CausalMMM, Panel, plots
from causalmmm.decisions.period import usual_amounts
from causalmmm.simulation import simulate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HIDDEN = 13
ALL = "all stores"


class Subject:
    """A fitted weekly panel of four stores and its answers, each asked once."""

    def __init__(self) -> None:
        self.panel, _ = simulate("weekly-mmm", seed=0, stores=4, steps=110)
        self.history, self.future = self.panel.split(HIDDEN)
        self.model = CausalMMM(seed=0).fit(self.history, progress=False)
        self.target = self.panel.nodes[-1]
        self.store = str(self.panel.stores[0])
        self.plan = self.future.to_frame().drop(columns=["pv", self.target])
        self.forecast = self.model.predict(self.history, HIDDEN, plan=self.plan)
        self.parts = self.model.decompose(self.history)
        self.returns = self.model.returns(self.history)
        self.best = self.model.optimize(HIDDEN, panel=self.history)
        amounts = usual_amounts(self.history.select([self.store]))[0]
        self.usual = dict(zip(self.panel.nodes, amounts, strict=True))

    def series(self, panel: Panel) -> pd.Series[Any]:
        selected = panel.select([self.store])
        return pd.Series(selected.data.values[:, -1], index=selected.dates(self.store))

    def fit(self) -> pd.DataFrame:
        """date, actual, expected, hidden of all stores."""
        dated = self.parts.assign(known=self.parts["component"] != "remainder")
        sums = dated.groupby(["date", "known"])["value"].sum().unstack()
        seen = pd.DataFrame({"actual": sums.sum(axis=1), "expected": sums[True], "hidden": False})
        ahead = self.forecast[self.forecast["series"] == self.target].groupby("date")["mean"].sum()
        actual = self.future.to_frame().groupby(self.panel.schema.date)[self.target].sum()
        hidden = pd.DataFrame({"actual": actual, "expected": ahead, "hidden": True})
        return pd.concat([seen, hidden]).rename_axis("date").reset_index()


def _mean_graph(s: Subject) -> Figure:
    graphs = [s.model.graph(str(store), threshold=0) for store in s.panel.stores]
    return plots.plot_graph(plots.mean_graph(graphs, ALL))


def _empty(s: Subject) -> Figure:
    graph = s.model.graph(s.store)
    graph.remove_edges_from(list(graph.edges))
    return plots.plot_graph(graph)


def _forecast(s: Subject) -> Figure:
    return plots.plot_forecast(
        s.forecast,
        store=s.store,
        series=s.target,
        history=s.series(s.history),
        actual=s.series(s.future),
        planned=True,
    )


def _curves(s: Subject) -> Figure:
    change = s.best.channels.set_index("channel")["change"]
    return plots.plot_curves(
        s.model.response_curves(store=s.store),
        store=s.store,
        target=s.target,
        usual=s.usual,
        planned={n: s.usual[n] * (1 + change[n]) for n in s.panel.schema.channels},
        measured=dict.fromkeys(s.panel.schema.channels, "spend"),
    )


def _errors(s: Subject) -> Figure:
    return plots.plot_errors(s.model.evaluate(s.panel, horizon=HIDDEN), series=s.target)


def _trust(s: Subject) -> Figure:
    rows = [
        ("holdout", "MAPE of gmv", 0.045, float("nan"), 0.15, True),
        ("refresh", "change of ROI", 0.09, float("nan"), 0.15, True),
        ("perturbation", "change of ROI", 0.05, float("nan"), 0.08, True),
        ("placebo", "ROI of a shuffled channel", 0.31, float("nan"), 0.25, False),
    ]
    columns = ["test", "measure", "value", "at_least", "at_most", "passed"]
    return plots.plot_trust(pd.DataFrame(rows, columns=columns).assign(meaning=""))


PICTURES: dict[str, tuple[str, Callable[[Subject], Figure]]] = {
    "graph": ("plot_graph(model.graph(store))", lambda s: plots.plot_graph(s.model.graph(s.store))),
    "mean-graph": ("plot_graph(mean_graph(graphs, 'all stores'))", _mean_graph),
    "empty-graph": ("plot_graph of a graph without edges", _empty),
    "forecast": ("plot_forecast(model.predict(plan=plan), ..., planned=True)", _forecast),
    "fit": ("plot_fit(fit, target=...)", lambda s: plots.plot_fit(s.fit(), target=s.target)),
    "residuals": ("plot_residuals(fit, target=...)",
                  lambda s: plots.plot_residuals(s.fit(), target=s.target)),
    "decomposition": ("plot_decomposition(model.decompose(), store=...)",
                      lambda s: plots.plot_decomposition(s.parts, store=s.store, target=s.target)),
    "decomposition-all": ("plot_decomposition(model.decompose()): all stores",
                          lambda s: plots.plot_decomposition(s.parts, target=s.target)),
    "waterfall": ("plot_waterfall(model.decompose())",
                  lambda s: plots.plot_waterfall(s.parts, target=s.target)),
    "paths": ("plot_paths(model.paths(by='total'))",
              lambda s: plots.plot_paths(s.returns.paths, store=ALL, target=s.target)),
    "curves": ("plot_curves(model.response_curves(), usual=..., planned=...)", _curves),
    "adstock": ("plot_adstock(model.adstock())", lambda s: plots.plot_adstock(s.model.adstock())),
    "roi": ("plot_roi(model.roi(by='total'))",
            lambda s: plots.plot_roi(s.returns.total, store=ALL)),
    "shares": ("plot_shares(model.roi(by='total'))",
               lambda s: plots.plot_shares(s.returns.total, store=ALL)),
    "stores": ("plot_stores(model.roi())", lambda s: plots.plot_stores(s.returns.stores)),
    "budget": ("plot_budget(best.channels, gain=best.gain)",
               lambda s: plots.plot_budget(s.best.channels, gain=s.best.gain)),
    "errors": ("plot_errors(model.evaluate(panel))", _errors),
    "trust": ("plot_trust(model.trust(...)); made-up numbers", _trust),
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Draw the gallery.")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args(arguments)
    folder: Path = options.out / "gallery"
    folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", UserWarning)
    subject = Subject()
    lines = [
        "# Gallery",
        "",
        "Every picture of `causalmmm.plots`, of four simulated stores (`weekly-mmm`, seed 0, 97",
        "weeks fitted, 13 hidden). Written by `python -m bench.pages.gallery`.",
    ]
    for name, (call, draw) in PICTURES.items():
        figure = draw(subject)
        figure.savefig(folder / f"{name}.png", dpi=75, metadata={"Software": None})
        said = figure.texts[0].get_text()
        lines += ["", f"## {name}", "", f"`{call}`", "", f"![{said}](gallery/{name}.png)"]
    (options.out / "gallery.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
