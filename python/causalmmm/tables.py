"""From a fitted model and a panel to tidy frames in the user's names and units.

Works through the stores a few at a time, so that memory does not grow with the panel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from causalmmm.engine.forecast import Future, simulate_futures
from causalmmm.engine.graphs import store_graphs
from causalmmm.engine.model import CausalModel
from causalmmm.engine.windows import Windows
from causalmmm.panel import Panel
from causalmmm.plan import Plan

_VALUES_AT_ONCE = 20_000_000


def graph_table(
    model: CausalModel, windows: Windows, panel: Panel, threshold: float, device: torch.device
) -> pd.DataFrame:
    """store, source, target, probability, effect, lower, upper; see ``CausalMMM.graphs``."""
    source, target = np.nonzero(~np.eye(len(panel.nodes), dtype=bool))
    names = np.array(panel.nodes, dtype=object)
    frames = []
    for stores in _chunks(panel, windows, copies=8):
        table = store_graphs(model, windows.full(stores).to(device))
        unit = windows.scale[stores][:, target]
        values = {k: t.cpu().numpy()[:, source, target] for k, t in vars(table).items()}
        keep = values["probability"] >= threshold
        columns = {
            "store": np.repeat(panel.stores[stores], keep.sum(1)),
            "source": np.broadcast_to(names[source], keep.shape)[keep],
            "target": np.broadcast_to(names[target], keep.shape)[keep],
            "probability": values["probability"][keep],
        }
        columns |= {k: (values[k] * unit)[keep] for k in ("effect", "lower", "upper")}
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def forecast_table(
    model: CausalModel,
    windows: Windows,
    panel: Panel,
    plan: Plan | None,
    *,
    steps: int,
    levels: Sequence[float],
    draws: int,
    seed: int,
    device: torch.device,
) -> pd.DataFrame:
    """store, date, series, mean, lower_80, upper_80, ...; see ``CausalMMM.predict``.

    The calendar of ``windows`` must reach ``steps`` beyond the panel.
    """
    data, grid = panel.data, windows.calendar.grid
    share = torch.tensor([0.5 + side * lv / 200 for lv in levels for side in (-1, 1)])
    bounds = [f"{side}_{lv:g}" for lv in levels for side in ("lower", "upper")]
    names = np.array(panel.nodes, dtype=object)
    frames = []
    for stores in _chunks(panel, windows, copies=max(1, draws // 4)):
        drawn = simulate_futures(
            model,
            windows.full(stores).to(device),
            _future(windows, panel, plan, stores, steps, device),
            draws=draws,
            seed=seed,
        )
        # one series at a time: torch.quantile takes at most 16 million values
        quantiles = [torch.quantile(part, share.to(drawn), dim=1) for part in drawn.unbind(2)]
        values = torch.stack([drawn.mean(1), *torch.stack(quantiles, dim=2)], dim=-1).cpu().numpy()
        values = values * windows.scale[stores][:, :, None, None]
        first = data.start[stores] + data.lengths[stores]
        dates = grid[first[:, None] + np.arange(steps)].astype("datetime64[ns]")
        frame = pd.DataFrame(
            {
                "store": np.repeat(panel.stores[stores], len(names) * steps),
                "date": np.repeat(dates[:, None], len(names), axis=1).ravel(),
                "series": np.tile(np.repeat(names, steps), len(stores)),
            }
        )
        frame[["mean", *bounds]] = values.reshape(len(frame), -1)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _future(
    windows: Windows,
    panel: Panel,
    plan: Plan | None,
    stores: NDArray[np.int64],
    steps: int,
    device: torch.device,
) -> Future:
    """What is known of the next steps, in scaled units. Controls without a plan stay."""
    data = panel.data
    ends = data.offsets[stores + 1] - 1
    basis = windows.calendar.ahead(data.start[stores] + data.lengths[stores] - 1, steps)
    if data.controls.shape[1]:
        controls = np.repeat(data.controls[ends][:, None], steps, axis=1)
        if plan is not None:
            planned = plan.controls[stores, :steps]
            controls = np.where(np.isnan(planned), controls, planned)
        basis = np.concatenate([basis, windows.calendar.standardise(controls)], axis=-1)
    given = np.full((len(stores), len(panel.nodes), steps), np.nan, np.float32)
    if plan is not None:
        for k, name in enumerate(plan.series):
            given[:, panel.nodes.index(name)] = plan.values[stores, :steps, k]
        given /= windows.scale[stores][:, :, None]
    arrays = (
        basis,
        data.context[ends if data.context_moves else stores],
        given,
        data.values.min(0) >= 0,
    )
    return Future(*(torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in arrays))


def _chunks(panel: Panel, windows: Windows, copies: int) -> Iterator[NDArray[np.int64]]:
    """Groups of stores such that ``copies`` of their windows and edges stay within bounds."""
    nodes = len(panel.nodes)
    steps = min(int(panel.lengths.max()), windows.window)
    size = int(np.clip(_VALUES_AT_ONCE // (copies * nodes * (steps + 32 * nodes)), 1, 1024))
    for begin in range(0, panel.n_stores, size):
        yield np.arange(begin, min(begin + size, panel.n_stores))
