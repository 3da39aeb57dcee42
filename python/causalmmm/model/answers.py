"""What a model answers for a group of stores, as arrays in units of each series' scale.

One class per regime; what is asked, and the frames of the answers, are decided in ``tables``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from causalmmm.data.panel import Panel
from causalmmm.data.plan import Plan
from causalmmm.dates import step_number
from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.decisions import System, regression_system
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.predict.attribution import contributions
from causalmmm.engine.predict.curves import response_curves
from causalmmm.engine.predict.future import Future, forecast_controls
from causalmmm.engine.predict.graphs import store_graphs
from causalmmm.engine.predict.noise import draw_noise
from causalmmm.engine.predict.rollout import forecast
from causalmmm.engine.regression import (
    Ahead,
    Observed,
    Regression,
    StorePosterior,
    mean_parts,
    observe,
    store_posterior,
)
from causalmmm.engine.regression import contributions as regression_contributions
from causalmmm.engine.regression import curves as regression_curves
from causalmmm.engine.regression import graphs as regression_graphs
from causalmmm.engine.regression import simulate as regression_futures
from causalmmm.engine.regression import summary as regression_summary
from causalmmm.inference import frames
from causalmmm.model.fleet import Fleet

Floats = NDArray[np.float32]
Stores = NDArray[np.int64]
Held = dict[tuple[int, bytes, int], tuple[Panel, StorePosterior]]  # the panel keeps its id taken
_VALUES_AT_ONCE = 25_000_000
_STORES_AT_ONCE = 128  # so that there is something to do for several threads
_EPOCH = np.datetime64("1970-01-01", "D")
INTERVAL = 0.9  # share of the intervals of graphs, curves and contributions


class StoreAnswers(Protocol):
    """Answers for the stores at these positions of a panel; B stores, N series."""

    @property
    def copies(self) -> int:
        """Windows and edge tables that one store takes at a time, for the size of groups."""
        ...

    def graphs(self, stores: Stores) -> dict[str, Floats]:
        """probability, effect, lower, upper: [B, N, N] each."""
        ...

    def forecast(
        self, stores: Stores, plan: Plan | None, steps: int, levels: Sequence[float]
    ) -> Floats:
        """Mean and interval ends [B, N, H, 1 + 2 levels]."""
        ...

    def contributions(self, stores: Stores) -> Floats:
        """Baseline, own past and every sender on the target: [B, 1 + N, rows], the last rows."""
        ...

    def curves(self, stores: Stores, amounts: Tensor) -> dict[str, Floats]:
        """expected, effect, lower, upper: [B, N, G] each, at scaled amounts [B, N, G]."""
        ...


class AmortisedAnswers:
    """Answers of the amortised model, ``draws`` futures behind every forecast."""

    def __init__(
        self,
        model: CausalModel,
        windows: Windows,
        panel: Panel,
        *,
        draws: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.model, self.windows, self.panel = model, windows, panel
        self.draws, self.seed, self.device = draws, seed, device

    @property
    def copies(self) -> int:
        return 8

    def graphs(self, stores: Stores) -> dict[str, Floats]:
        table = store_graphs(self.model, self._batch(stores))
        return {name: _numpy(tensor) for name, tensor in vars(table).items()}

    def forecast(
        self, stores: Stores, plan: Plan | None, steps: int, levels: Sequence[float]
    ) -> Floats:
        batch = self._batch(stores)
        future = known_future(self.windows, self.panel, plan, stores, batch, steps)
        nodes, terms = batch.x.shape[1], future.basis.shape[2]
        noise = draw_noise(
            nodes, terms, steps, draws=self.draws, seed=self.seed, device=self.device
        )
        share = torch.tensor(levels, dtype=torch.float32, device=self.device) / 100
        inferred = self.model.infer(batch)
        mean, ends = forecast(self.model, batch, inferred, future, noise, share)
        return _numpy(torch.cat([mean.unsqueeze(-1), ends], dim=-1))

    def contributions(self, stores: Stores) -> Floats:
        batch = self._batch(stores)
        parts = contributions(self.model, batch, self.model.infer(batch))
        around = torch.stack([parts.baseline, parts.own_past], dim=1)  # [B, 2, T - 1]
        return _numpy(torch.cat([around, parts.senders[:, :-1]], dim=1))

    def curves(self, stores: Stores, amounts: Tensor) -> dict[str, Floats]:
        batch = self._batch(stores)
        scaled = amounts.contiguous().to(self.device)
        table = response_curves(self.model, batch, self.model.infer(batch), scaled)
        return {name: _numpy(tensor) for name, tensor in vars(table).items()}

    def _batch(self, stores: Stores) -> Batch:
        return self.windows.full(stores).to(self.device)


class RegressionAnswers:
    """Answers of the response regression: coefficients in closed form from a store's own rows.

    ``held`` keeps what is known of groups of stores for other questions about the same panel.
    """

    def __init__(
        self,
        regression: Regression,
        windows: Windows,
        panel: Panel,
        *,
        seed: int,
        fleet: Fleet | None = None,
        held: Held | None = None,
    ) -> None:
        self.regression, self.windows, self.panel, self.seed = regression, windows, panel, seed
        self.fleet, self.held = fleet, held

    @property
    def copies(self) -> int:
        return max(1, self.regression.config.draws // 4)  # responses are held for fewer still

    def graphs(self, stores: Stores) -> dict[str, Floats]:
        table = regression_graphs(self._posterior(stores))
        return {name: _numpy(tensor) for name, tensor in vars(table).items()}

    def forecast(
        self, stores: Stores, plan: Plan | None, steps: int, levels: Sequence[float]
    ) -> Floats:
        batch = self.windows.full(stores)
        future = known_future(self.windows, self.panel, plan, stores, batch, steps)
        ahead = Ahead(future.basis, future.control_std, future.given, future.floor[:, 0])
        share = torch.tensor(levels, dtype=torch.float64) / 100
        futures = regression_futures(self._posterior(stores), ahead, self.seed)  # [D, B, N, H]
        if self.fleet is not None:
            self.fleet.add("forecast", np.tensordot(futures[:, :, -1], self._unit(stores), (1, 0)))
        mean, ends = regression_summary(futures, share)
        return _numpy(torch.cat([mean.unsqueeze(-1), ends], dim=-1))

    def contributions(self, stores: Stores) -> Floats:
        target = len(self.panel.nodes) - 1
        return _numpy(mean_parts(self._posterior(stores, [target]))[:, :-1])

    def sums(self, stores: Stores) -> dict[str, Floats]:
        """Contributions over the history, [B, N] each: ``direct`` and ``total`` through mediators
        (posterior means) with the ends of their central 90 % intervals."""
        parts = regression_contributions(self._posterior(stores, self._outcomes()))
        ends = torch.tensor([0.5 - INTERVAL / 2, 0.5 + INTERVAL / 2], dtype=torch.float64)
        table: dict[str, Tensor] = {}
        for name, drawn in (("direct", parts.sums), ("total", parts.total_sums)):
            lower, upper = drawn.quantile(ends, 0)
            table |= {name: drawn.mean(0), f"{name}_lower": lower, f"{name}_upper": upper}
        return {name: _numpy(tensor) for name, tensor in table.items()}

    def curves(self, stores: Stores, amounts: Tensor) -> dict[str, Floats]:
        posterior = self._posterior(stores, [len(self.panel.nodes) - 1])
        unit = None if self.fleet is None else torch.from_numpy(self._unit(stores))
        table = {**vars(regression_curves(posterior, amounts, unit=unit))}
        total = table.pop("total")
        if self.fleet is not None:
            self.fleet.add("curves", total.numpy())
        return {name: _numpy(tensor) for name, tensor in table.items()}

    def system(
        self,
        stores: Stores,
        ahead: NDArray[np.float64],
        *,
        last_rows: int | None = None,
        draws: int | None = None,
    ) -> System:
        """Equations of the stores' posterior draws; see ``decisions.period.Systems``."""
        steps = ahead.shape[1]
        batch = self.windows.full(stores)
        future = known_future(self.windows, self.panel, None, stores, batch, steps)
        senders = ahead.shape[2]
        given = future.given.to(torch.float64)
        unit = self.windows.scale[stores][:, :senders, None]
        given[:, :senders] = torch.from_numpy(ahead.transpose(0, 2, 1) / unit)
        known = Ahead(future.basis, future.control_std, given, future.floor[:, 0])
        begin = 0 if last_rows is None else batch.x.shape[-1] - last_rows
        posterior = self._posterior(stores, self._outcomes(), draws)
        return regression_system(posterior, known, begin=begin)

    def scale(self, stores: Stores) -> NDArray[np.float64]:
        """[B, N]: a unit of the equations' series in the user's units."""
        return self.windows.scale[stores].astype(np.float64)

    def _unit(self, stores: Stores) -> NDArray[np.float64]:
        """[B]: a unit of the target."""
        return self.scale(stores)[:, -1]

    def groups(
        self, steps: int, *, last_rows: int | None = None, draws: int | None = None
    ) -> list[Stores]:
        """Stores answered for together, see ``decisions.period.Systems``; memory is bounded."""
        rows = int(self.panel.lengths.max()) if last_rows is None else last_rows
        most = self.regression.config.draws
        copies = most if draws is None else min(draws, most)
        values = copies * len(self.panel.nodes) * (rows + steps)
        size = int(np.clip(_VALUES_AT_ONCE // values, 1, _STORES_AT_ONCE))
        return list(frames.groups(self.panel, self.windows.window, size))

    def _outcomes(self) -> list[int]:
        """The target and the mediators, through which channels act."""
        roles = self.panel.data.roles
        return [j for j in reversed(range(len(roles))) if roles[j] in ("mediator", "target")]

    def _posterior(
        self, stores: Stores, receivers: Sequence[int] | None = None, most: int | None = None
    ) -> StorePosterior:
        draws = self.regression.config.draws
        draws = draws if most is None else min(most, draws)
        key = (id(self.panel), stores.tobytes(), draws)
        _, whole = (self.held or {}).get(key, (None, None))
        if whole is None:
            observed = observed_stores(self.windows, self.panel, stores)
            whole = store_posterior(self.regression, observed, draws=draws, seed=self.seed)
            if self.held is not None:
                self.held[key] = (self.panel, whole)
        return whole if receivers is None else whole.of(receivers)


def observed_stores(windows: Windows, panel: Panel, stores: Stores) -> Observed:
    """Histories of the stores as the response regression reads them.

    Sampling noise is a store's own by its name, and level shifts are known by their dates, so that
    a store's answers are the same in other company and in a table that begins elsewhere.
    """
    data, batch = panel.data, windows.full(stores)
    steps = batch.x.shape[-1]
    ends = data.grid[data.start[stores] + data.lengths[stores] - 1]
    last = step_number(ends, data.freq, _EPOCH)
    position = last[:, None] - np.arange(steps - 1, -1, -1)
    keys = [crc32(name.encode()) for name in panel.stores[stores].tolist()]
    return observe(
        batch.x,
        batch.basis,
        batch.context_mask,
        torch.from_numpy(windows.scale[stores]),
        torch.tensor(keys),
        torch.from_numpy(position),
    )


def known_future(
    windows: Windows,
    panel: Panel,
    plan: Plan | None,
    stores: Stores,
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


def _numpy(tensor: Tensor) -> Floats:
    array: Floats = tensor.to(torch.float32).cpu().numpy()
    return array
