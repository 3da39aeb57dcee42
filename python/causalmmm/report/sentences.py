"""Sentences that a report generates from its tables: what is found, and how sure it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from causalmmm.findings import counted, first_few
from causalmmm.inference.frames import BASELINE, OWN_PAST, REMAINDER
from causalmmm.plots.style import number

if TYPE_CHECKING:
    import pandas as pd

    from causalmmm.report.gather import Tables

EVERYTHING = "all channels"
_LOOSE = 1.0  # width of an interval, relative to its middle, of a return not known well
_PAYS = 1.0
_SHOWN = 0.001  # of the target: a smaller part is none of the largest
_STILL = 0.05  # a smaller change of a probability is none


def summary(tables: Tables) -> Iterator[str]:
    """The first screen: what drives the target, what to move, how sure."""
    yield drivers(tables)
    yield from moves(tables)
    yield from confidence(tables)


def drivers(tables: Tables) -> str:
    """What the target is made of."""
    facts, parts = tables.facts, tables.frames["parts"]
    sums = parts.groupby("component", sort=False)["value"].sum()
    total = float(sums.sum())
    series = sums.drop([BASELINE, OWN_PAST, REMAINDER]).sort_values(ascending=False)
    channels = [n for n, role in zip(facts["nodes"], facts["roles"], strict=True)
               if role in ("channel", "organic")]  # fmt: skip
    media = float(series.reindex(channels).sum())
    mediators = [n for n in series.index if n not in channels]
    best = [
        f"{name} ({value / total:.1%})"
        for name, value in series.head(3).items()
        if value / total >= _SHOWN
    ]
    text = f"Channels explain {media / total:.0%} of {facts['target']} directly"
    if mediators:
        text += f" and mediators {float(series[mediators].sum()) / total:.0%}"
    if len(best) > 1:
        text += f"; the largest parts are {_listed(best)}"
    elif best:
        text += f"; the largest part is {best[0]}"
    return text + f". The baseline (level, season, controls) is {sums[BASELINE] / total:.0%}."


def moves(tables: Tables) -> Iterator[str]:
    """Which money returns most and least, and what the plan changes."""
    roi = tables.frames.get("roi")
    if roi is None:
        return
    rows = _single(roi)
    if len(rows) and (rows["roi_lower"] <= 0).all():
        top = rows.iloc[rows["roi"].argmax()]
        yield (
            f"No channel's return is surely above zero: the most is that of {top['channel']}, "
            f"{_with_ends(top, 'roi')} per unit of spend. That is no reason to move money."
        )
    elif len(rows) == 1:
        only = rows.iloc[0]
        yield f"{only['channel']} returned {_with_ends(only, 'roi')} per unit of spend."
    elif len(rows):
        best, worst = (rows.iloc[k] for k in (rows["roi"].argmax(), rows["roi"].argmin()))
        yield (
            f"{best['channel']} returned most, {_with_ends(best, 'roi')} per unit of spend; "
            f"{worst['channel']} least, {_with_ends(worst, 'roi')}."
        )
        more, less = (rows.iloc[k] for k in (rows["mroi"].argmax(), rows["mroi"].argmin()))
        if more["channel"] != less["channel"]:
            sure = "" if more["mroi_lower"] > less["mroi_upper"] else ", though intervals overlap"
            yield (
                f"The last unit spent on {more['channel']} brings {number(more['mroi'])}, on "
                f"{less['channel']} {number(less['mroi'])}: moving money from {less['channel']} "
                f"to {more['channel']} pays{sure}."
            )
    yield from budget(tables)


def budget(tables: Tables) -> Iterator[str]:
    gain, table = tables.facts["gain"], tables.frames.get("budget")
    if gain is None or table is None:
        return
    whole = table[table["channel"] == EVERYTHING].iloc[0]
    change = whole["spend"] / whole["current"] - 1 if whole["current"] > 0 else float("nan")
    word = "adds" if gain["mean"] >= 0 else "loses"
    yield (
        f"The plan spends {number(whole['spend'])} ({change:+.0%} on last year's mean) and {word} "
        f"{number(abs(gain['mean']))} (90 %: {number(gain['lower'])} to {number(gain['upper'])}; "
        f"a gain with probability {100 * gain['better']:.0f} %)."
    )
    yield from tables.facts["plan_doubts"]


def confidence(tables: Tables) -> Iterator[str]:
    """How far off forecasts were, and which returns are not known well."""
    scores = tables.frames["accuracy"].set_index(["steps", "method"])
    hidden = scores.loc["hidden"] if "hidden" in scores.index.get_level_values(0) else None
    if hidden is not None:
        ours: Any = hidden.loc["causalmmm"]
        naive = float(hidden.drop("causalmmm")["wmape"].min())
        better = "better" if ours["wmape"] < naive else "no better"
        steps = counted(tables.facts["hidden"], tables.facts["step"])
        yield (
            f"On {steps} hidden from the fit the forecast was off by "
            f"{ours['wmape']:.1%}, {better} than a naive one ({naive:.1%}); its 80 % intervals "
            f"held {ours['coverage_80']:.0%} of what happened."
        )
    else:
        error: Any = scores.loc[("fitted", "causalmmm"), "wmape"]
        yield (
            f"Where it was fitted, the model is off by {error:.1%}; nothing was hidden from it, so "
            "this does not say how well it forecasts."
        )
    roi = tables.frames.get("roi")
    if roi is not None:
        rows = _single(roi)
        width = (rows["roi_upper"] - rows["roi_lower"]) / rows["roi"].abs()
        loose = rows.loc[width > _LOOSE, "channel"].tolist()
        if loose:
            yield (
                f"Not known well: {_listed([*map(str, loose)])} (the 90 % interval is wider than "
                "the return itself). An experiment would tell."
            )
    yield from doubts(tables)
    errors = [f for f in tables.facts["findings"] if f["severity"] == "warning"]
    if errors:
        yield f"The data have {counted(len(errors), 'warning')}: see Data."


def doubts(tables: Tables) -> Iterator[str]:
    """What the fit warned of."""
    for text in tables.facts["doubts"]:
        yield f"The fit warns: {text}."


def accuracy(tables: Tables) -> Iterator[str]:
    scores = tables.frames["accuracy"]
    for row in scores[scores["method"] == "causalmmm"].to_dict("records"):
        where = "Where fitted" if row["steps"] == "fitted" else "On hidden steps"
        over_stores = ""
        if tables.facts["stores"] > 1:
            over_stores = f" pooled over stores (median store {row['r2_median']:.2f})"
        text = (
            f"{where}: R² {row['r2']:.2f}{over_stores}, MAPE {row['mape']:.1%}, "
            f"wMAPE {row['wmape']:.1%}"
        )
        if np.isfinite(row["coverage_80"]):
            text += f"; 80 % intervals hold {row['coverage_80']:.0%}, 95 % {row['coverage_95']:.0%}"
        yield text + "."


def graphs(tables: Tables) -> Iterator[str]:
    frame, facts = tables.frames["graphs"], tables.facts
    fleet = frame[(frame["group"] == 0) & (frame["target"] == facts["target"])]
    sure = fleet[fleet["probability"] >= 0.5].sort_values("probability", ascending=False)
    average = "" if facts["stores"] == 1 else ", on average over stores"
    named = [f"{s} ({p:.0%})" for s, p in sure[["source", "probability"]].to_numpy()]
    if named:
        yield f"{facts['target']} is driven by {_listed(named[:6])}{average}."
    else:
        yield (
            f"No series drives {facts['target']} with a probability of one half{average}: "
            "histories are too short or effects too weak. Zero shown is not an effect of zero."
        )
    yield from _moved(frame[frame["group"] == 0])
    groups = frame[frame["group"] > 0].drop_duplicates("group")
    if len(groups):
        sizes = _listed([str(n) for n in groups["stores"]])
        yield f"Stores fall into {len(groups)} groups of similar graphs, with {sizes} stores."
    elif facts["stores"] > 1:
        yield "The stores' graphs are alike: no split into groups explains much."
    back = frame[(frame["group"] == 0) & (frame["source"] == facts["target"])]
    if (back["probability"] >= 0.5).any():
        names = back.loc[back["probability"] >= 0.5, "target"].tolist()
        yield f"Spend on {first_few(names)} follows demand: read their effects with care."


def _moved(fleet: pd.DataFrame) -> Iterator[str]:
    """Where the data have spoken, and where a probability is the prior's."""
    change = (fleet["probability"] - fleet["prior"]).abs()
    open_to_data = (fleet["prior"] > 0) & (fleet["prior"] < 1)
    still = fleet[open_to_data & (fleet["probability"] >= 0.5) & (change < _STILL)]
    if len(still):
        named = [f"{r.source} → {r.target}" for r in still.itertuples()]
        yield (
            f"The data hardly moved {_listed(named[:6])}: the probability is about what it was "
            "before any data."
        )


def paths(tables: Tables) -> Iterator[str]:
    frame = tables.frames.get("paths")
    if frame is None:
        return
    whole = frame[(frame["channel"] == EVERYTHING) & (frame["path"] == "total")].iloc[0]
    single = frame[~frame["channel"].isin([EVERYTHING, "interaction"])]
    mediated = single["path"].str.count(" -> ") > 1
    mean = float(whole["mean"])
    share = (
        f"; {single[mediated]['mean'].sum() / mean:.0%} of it came through mediators"
        if mediated.any() and mean
        else ""
    )
    yield (
        f"With all channels off {tables.facts['target']} would have been "
        f"{number(mean)} lower (90 %: {number(float(whole['lower']))} to "
        f"{number(float(whole['upper']))}){share}."
    )


def returns(tables: Tables) -> Iterator[str]:
    roi = tables.frames["roi"]
    rows = _single(roi)
    pays = rows[rows["roi_lower"] > _PAYS]["channel"].tolist()
    not_ = rows[rows["roi_upper"] < _PAYS]["channel"].tolist()
    unit = "money" if tables.facts["money"] else tables.facts["target"]
    yield f"Returns are in {unit} per unit of spend, all paths and carry-over included."
    if pays:
        yield f"Surely above one: {_listed([*map(str, pays)])}."
    if not_:
        yield f"Surely below one: {_listed([*map(str, not_)])}."


def forecast(tables: Tables) -> Iterator[str]:
    frame, facts = tables.frames["forecast"], tables.facts
    total, steps = float(frame["mean"].sum()), len(frame)
    actual = tables.frames["fit"]["actual"]
    before = float(actual.tail(steps).sum())
    under = "under the plan" if facts["planned"] else "if spend goes on as before"
    span = counted(steps, facts["step"])
    text = f"{number(total)} {facts['target']} over the next {span} {under}"
    if before > 0 and len(actual) >= steps:
        text += f", {total / before - 1:+.0%} on as many before"
    yield text + "."


def _single(roi: pd.DataFrame) -> Any:
    return roi[(roi["channel"] != EVERYTHING) & roi["roi"].notna()]


def _with_ends(row: Any, name: str) -> str:
    ends = f"{number(row[f'{name}_lower'])} to {number(row[f'{name}_upper'])}"
    return f"{number(row[name])} ({ends})"


def _listed(names: list[str]) -> str:
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
