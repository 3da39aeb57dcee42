"""From a fitted model and a panel to answers, in batches of tensors.

Works through the stores a few at a time, so that memory does not grow with the panel; what the
frames look like is decided in ``frames``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from causalmmm.data.panel import Panel
from causalmmm.data.plan import Plan
from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.predict.attribution import contributions
from causalmmm.engine.predict.curves import response_curves
from causalmmm.engine.predict.future import Future, forecast_controls
from causalmmm.engine.predict.graphs import store_graphs
from causalmmm.engine.predict.noise import draw_noise
from causalmmm.engine.predict.rollout import forecast
from causalmmm.inference import frames

_VALUES_AT_ONCE = 20_000_000


def graph_table(
    model: CausalModel, windows: Windows, panel: Panel, threshold: float, device: torch.device
) -> pd.DataFrame:
    """store, source, target, probability, effect, lower, upper; see ``CausalMMM.graphs``."""
    parts = []
    for stores in _groups(panel, windows, copies=8):
        table = vars(store_graphs(model, windows.full(stores).to(device)))
        unit = windows.scale[stores][:, None]
        values = {name: tensor.cpu().numpy() for name, tensor in table.items()}
        values |= {name: values[name] * unit for name in frames.EFFECT_COLUMNS}
        parts.append((stores, frames.graph_frame(panel, stores, values, threshold)))
    return frames.joined(parts)


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
    level = torch.tensor(levels, dtype=torch.float32, device=device) / 100
    parts = []
    copies = max(1, draws // 4) * (1 + len(levels) * steps // 60)
    for stores in _groups(panel, windows, copies):
        batch = windows.full(stores).to(device)
        future = known_future(windows, panel, plan, stores, batch, steps)
        nodes, terms = batch.x.shape[1], future.basis.shape[2]
        noise = draw_noise(nodes, terms, steps, draws=draws, seed=seed, device=device)
        mean, bounds = forecast(model, batch, model.infer(batch), future, noise, level)
        values = _numpy(torch.cat([mean.unsqueeze(-1), bounds], dim=-1))
        values = values * windows.scale[stores][:, :, None, None]
        first = data.start[stores] + data.lengths[stores]
        ahead = grid[first[:, None] + np.arange(steps)]
        parts.append((stores, frames.forecast_frame(panel, stores, ahead, values, levels)))
    return frames.joined(parts)


def contribution_table(
    model: CausalModel, windows: Windows, panel: Panel, device: torch.device
) -> pd.DataFrame:
    """store, date, component, value; see ``CausalMMM.decompose``."""
    parts = []
    for stores in _groups(panel, windows, copies=8):
        batch = windows.full(stores).to(device)
        parts_of = contributions(model, batch, model.infer(batch))
        around = torch.stack([parts_of.baseline, parts_of.own_past], dim=1)  # [B, 2, T - 1]
        stacked = torch.cat([around, parts_of.senders[:, :-1]], dim=1)
        values = stacked.cpu().numpy() * windows.scale[stores][:, -1:, None]
        parts.append((stores, frames.contribution_frame(panel, stores, values)))
    return frames.joined(parts)


def curve_table(
    model: CausalModel,
    windows: Windows,
    panel: Panel,
    channel: str | None,
    points: int,
    device: torch.device,
) -> pd.DataFrame:
    """store, channel, amount, expected, effect, lower, upper; see ``CausalMMM.response_curves``."""
    channels = frames.curve_channels(panel, channel)
    parts = []
    for stores in _groups(panel, windows, copies=8):
        batch = windows.full(stores).to(device)
        amounts = frames.curve_amounts(panel, stores, windows.window, points)
        scaled = torch.from_numpy(amounts / windows.scale[stores][:, None]).to(device).mT
        curves = response_curves(model, batch, model.infer(batch), scaled.contiguous())
        unit = windows.scale[stores][:, -1, None, None]
        values = {name: _numpy(tensor.mT) * unit for name, tensor in vars(curves).items()}
        parts.append((stores, frames.curve_frame(panel, stores, channels, amounts, values)))
    return frames.joined(parts)


def _numpy(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.cpu().numpy()
    return array


def known_future(
    windows: Windows,
    panel: Panel,
    plan: Plan | None,
    stores: NDArray[np.int64],
    batch: Batch,
    steps: int,
) -> Future:
    """What is known of the steps after a batch of stores, in scaled units, on its device."""
    data = panel.data
    ends = data.offsets[stores + 1] - 1
    basis = windows.calendar.ahead(data.start[stores] + data.lengths[stores] - 1, steps)
    given, controls = frames.planned(panel, plan, stores, steps)
    planned = torch.from_numpy(windows.calendar.standardise(controls))
    history = batch.basis[..., basis.shape[-1] :].cpu()
    expected, control_std = forecast_controls(history, batch.context_mask.cpu(), planned)
    begins = data.offsets[stores]
    floor = [data.values[b : e + 1].min(0) >= 0 for b, e in zip(begins, ends, strict=True)]
    arrays = (
        np.concatenate([basis, expected], axis=-1),
        control_std.numpy(),
        data.context[ends if data.context_moves else stores],
        (given / windows.scale[stores][:, None]).transpose(0, 2, 1),
        np.stack(floor)[:, None],
    )
    device = batch.x.device
    return Future(*(torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in arrays))


def _groups(panel: Panel, windows: Windows, copies: int) -> Iterator[NDArray[np.int64]]:
    """Groups of stores such that ``copies`` of their windows and edges stay within bounds."""
    nodes = len(panel.nodes)
    steps = min(int(panel.lengths.max()), windows.window)
    size = int(np.clip(_VALUES_AT_ONCE // (copies * nodes * (steps + 32 * nodes)), 1, 1024))
    return frames.groups(panel, windows.window, size)
