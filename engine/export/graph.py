"""The exported computation: from histories to all results, both in user units.

Calls the engine's own functions, so that the exported computation is that of the fitted model. Only
the conversion from user units and dates to a ``Batch`` and a ``Future`` is written here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.predict.attribution import contributions
from causalmmm.engine.predict.curves import response_curves
from causalmmm.engine.predict.future import Future, forecast_controls
from causalmmm.engine.predict.graphs import store_graphs
from causalmmm.engine.predict.noise import Noise, draw_noise
from causalmmm.engine.predict.rollout import forecast
from causalmmm.engine.spec.calendar import STEPS_PER_YEAR, Calendar, CalendarSpec, period_of

_CYCLE = 1461  # days in four years: exact from March 1900 to February 2100

MIN_HORIZON = 8  # steps of noise in every file, so that its horizon is a dynamic axis

# Named axes of every input and output, in order.
INPUTS = {
    "history": ("batch", "time", "series"),
    "controls": ("batch", "time", "control"),
    "context": ("batch", "time", "feature"),
    "date": ("batch", "time"),
    "future_date": ("batch", "horizon"),
    "future_controls": ("batch", "horizon", "control"),
    "plan": ("batch", "horizon", "series"),
    "level": ("level",),
    "amounts": ("batch", "point", "series"),
}
OUTPUTS = {
    "probability": ("batch", "source", "target"),
    "effect": ("batch", "source", "target"),
    "effect_lower": ("batch", "source", "target"),
    "effect_upper": ("batch", "source", "target"),
    "mean": ("batch", "series", "horizon"),
    "bounds": ("batch", "series", "horizon", "bound"),
    "contribution": ("batch", "component", "row"),
    "response": ("batch", "point", "series"),
    "response_lower": ("batch", "point", "series"),
    "response_upper": ("batch", "point", "series"),
    "response_expected": ("batch", "point", "series"),
}


FORECASTS = ("mean", "bounds")
CURVES = ("response", "response_lower", "response_upper", "response_expected")


class ExportedModel(nn.Module):
    """``forward`` maps INPUTS to OUTPUTS; inputs without columns (no controls) are omitted."""

    gates: Tensor
    effects: Tensor
    coefficients: Tensor
    terms: Tensor
    steps: Tensor
    pauses: Tensor

    def __init__(
        self,
        model: CausalModel,
        calendar: CalendarSpec,
        *,
        window: int,
        draws: int,
        seed: int,
        horizon: int,
    ) -> None:
        super().__init__()
        self.model, self.window = model, window
        nodes, terms = model.baseline.shared.shape
        horizon = max(horizon, MIN_HORIZON)
        noise = draw_noise(
            nodes, terms, horizon, draws=draws, seed=seed, device=torch.device("cpu")
        )
        self.draws = draws
        for name in ("gates", "effects", "coefficients", "terms", "steps", "pauses"):
            self.register_buffer(name, getattr(noise, name))
        self.calendar = ExportedCalendar(calendar)

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        history = inputs["history"]
        scale = _scale(history)  # [B, N]
        floor = torch.where(history.isnan(), 0.0, history).amin(1) >= 0
        batch = self._batch(inputs, scale)
        inferred = self.model.infer(batch)
        graph = store_graphs(self.model, batch, inferred)
        unit = scale.unsqueeze(1)
        results = {
            "probability": graph.probability,
            "effect": graph.effect * unit,
            "effect_lower": graph.lower * unit,
            "effect_upper": graph.upper * unit,
        }
        future = self._future(inputs, batch, scale, floor)
        noise = self._noise(future)
        mean, bounds = forecast(self.model, batch, inferred, future, noise, inputs["level"])
        results["mean"] = mean * scale[:, :, None]
        results["bounds"] = bounds * scale[:, :, None, None]
        parts = contributions(self.model, batch, inferred)
        stacked = torch.cat(
            [parts.baseline.unsqueeze(1), parts.own_past.unsqueeze(1), parts.senders], 1
        )
        results["contribution"] = stacked[:, :-1] * scale[:, -1:, None]
        amounts = inputs["amounts"].mT / scale.unsqueeze(-1)
        curves = response_curves(self.model, batch, inferred, amounts)
        for name, part in (
            ("response", curves.effect),
            ("response_lower", curves.lower),
            ("response_upper", curves.upper),
            ("response_expected", curves.expected),
        ):
            results[name] = (part * scale[:, -1:, None]).mT
        return results

    def _batch(self, inputs: Mapping[str, Tensor], scale: Tensor) -> Batch:
        """The last rows of every history, as the model takes them."""
        history = inputs["history"][:, -self.window :].mT  # [B, N, T]
        context_mask = ~history.isnan().any(1)
        rows = context_mask.to(history.dtype).unsqueeze(1)
        x = torch.where(context_mask.unsqueeze(1), history / scale.unsqueeze(-1), 0.0)
        count = rows.sum(-1, keepdim=True)
        x = torch.where(context_mask.unsqueeze(1), x, x.sum(-1, keepdim=True) / count)
        steps = history.shape[-1]
        position = torch.arange(steps, dtype=torch.float32) - (steps - 1)
        date = inputs["date"][:, -self.window :]
        basis = self.calendar(date, position)
        if "controls" in inputs:
            controls = self.calendar.standardise(inputs["controls"][:, -self.window :])
            basis = torch.cat([basis, controls], dim=-1)
        if "context" in inputs:
            first_row = (steps - count[:, 0].long()).unsqueeze(-1)  # [B, 1, 1]
            values = inputs["context"][:, -self.window :]  # [B, T, C]
            padding = values.gather(1, first_row.expand(-1, 1, values.shape[-1]))
            context = torch.where(context_mask.unsqueeze(-1), values, padding).mT
        else:
            context = history[:, :0]
        return Batch(
            x=x,
            basis=basis,
            context=context,
            context_mask=context_mask,
            target_mask=context_mask,
            store=torch.zeros_like(date[:, 0]),
        )

    def _future(
        self, inputs: Mapping[str, Tensor], batch: Batch, scale: Tensor, floor: Tensor
    ) -> Future:
        steps = inputs["future_date"].shape[1]
        basis = self.calendar(inputs["future_date"], torch.arange(steps, dtype=torch.float32) + 1.0)
        control_std = basis[..., :0]
        if "controls" in inputs:
            planned = self.calendar.standardise_known(inputs["future_controls"])
            history = batch.basis[..., -planned.shape[-1] :]
            expected, control_std = forecast_controls(history, batch.context_mask, planned)
            basis = torch.cat([basis, expected], dim=-1)
        return Future(
            basis=basis,
            control_std=control_std,
            context=batch.context[..., -1],
            given=(inputs["plan"] / scale.unsqueeze(1)).mT,
            floor=floor.unsqueeze(1),
        )

    def _noise(self, future: Future) -> Noise:
        horizon = future.basis.shape[1]
        return Noise(
            self.draws,
            self.gates,
            self.effects,
            self.coefficients,
            self.terms,
            self.steps[:horizon],
            self.pauses[:horizon],
        )


def _scale(history: Tensor) -> Tensor:
    """[B, N]: mean magnitude of every series over all rows [B, T, N] of a history; 1 if it never
    moved."""
    absent = history.isnan()
    total = torch.where(absent, 0.0, history).abs().sum(1)
    mean = total / (~absent).to(history.dtype).sum(1)
    return torch.where(mean > 0, mean, 1.0)


class ExportedCalendar(nn.Module):
    """``engine.spec.calendar`` as lookup tables: a week, a four-year cycle, and holidays."""

    cycle: Tensor
    week: Tensor
    holidays: Tensor
    control_mean: Tensor
    control_scale: Tensor

    def __init__(self, spec: CalendarSpec) -> None:
        super().__init__()
        without_holidays = replace(spec, country=None, control_mean=(), control_scale=())
        days = _day("2000-01-01") + np.arange(_CYCLE)
        table = Calendar(without_holidays, days).rows(np.arange(_CYCLE)[None])[0]
        weekly = [k for k, group in enumerate(without_holidays.groups) if group == "weekly"]
        others = [k for k in range(table.shape[1]) if k not in weekly]
        self.order = np.argsort([*others, *weekly]).tolist()
        self.steps_per_year = STEPS_PER_YEAR[period_of(spec.freq)]
        self.register_buffer("cycle", torch.from_numpy(table[:, others].copy()))
        self.register_buffer("week", torch.from_numpy(table[:7, weekly].copy()))
        self.register_buffer("holidays", _holidays(spec))
        self.register_buffer("control_mean", torch.tensor(spec.control_mean))
        self.register_buffer("control_scale", torch.tensor(spec.control_scale))

    def forward(self, date: Tensor, position: Tensor) -> Tensor:
        """float32 [B, T, Q0] at dates [B, T] (days since 1970-01-01); ``position`` [T] is in steps
        from the last row of the history."""
        day = date - int(_day("2000-01-01").astype(np.int64))
        cycle = self.cycle[day.remainder(_CYCLE)]
        trend = (position / self.steps_per_year).expand(date.shape).unsqueeze(-1)
        parts = [cycle[..., :1], trend, cycle[..., 2:], self.week[day.remainder(7)]]
        basis = torch.cat(parts, dim=-1)[..., self.order]
        if not len(self.holidays):
            return basis
        index = (date - int(_HOLIDAYS[0].astype(np.int64))).clamp(0, len(self.holidays) - 1)
        return torch.cat([basis, self.holidays[index].unsqueeze(-1)], dim=-1)

    def standardise(self, controls: Tensor) -> Tensor:
        """As ``Calendar.standardise``; missing rows take the mean."""
        return torch.where(controls.isnan(), 0.0, self.standardise_known(controls))

    def standardise_known(self, controls: Tensor) -> Tensor:
        """As ``Calendar.standardise``; missing values stay NaN."""
        return (controls - self.control_mean) / self.control_scale


def _day(text: str) -> np.datetime64:
    return np.datetime64(text, "D")


_HOLIDAYS = (_day("2000-01-01"), _day("2060-01-01"))


def known_dates(spec: CalendarSpec) -> tuple[str, str]:
    """First and last date for which an exported calendar is correct."""
    if spec.country is None:
        return "1900-03-01", "2100-02-28"
    return str(_HOLIDAYS[0]), str(_HOLIDAYS[1] - 1)


def _holidays(spec: CalendarSpec) -> Tensor:
    """float32 [days]: number of holidays in the period that begins on each day; empty without a
    country."""
    if spec.country is None:
        return torch.zeros(0)
    days = np.arange(_HOLIDAYS[0], _HOLIDAYS[1] + 40)
    daily = Calendar(CalendarSpec("D", 0, spec.country), days).rows(np.arange(len(days))[None])
    before = np.concatenate([[0], np.cumsum(daily[0, :, -1], dtype=np.int64)])
    first = np.arange(len(days) - 40)
    period = period_of(spec.freq)
    if period == "M":
        after = (days[first].astype("datetime64[M]") + 1).astype("datetime64[D]")
        end = (after - days[0]).astype(np.int64)
    else:
        end = first + (7 if period == "W" else 1)
    return torch.from_numpy((before[end] - before[first]).astype(np.float32))
