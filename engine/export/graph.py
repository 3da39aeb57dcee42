"""The exported computation: from histories to all results, both in user units.

Calls the engine's own functions, so that the exported computation is that of the fitted model. Only
the conversion from user units and dates to a ``Batch`` and a ``Future`` is written here.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.export.calendar import ExportedCalendar, scale_of
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.predict.attribution import contributions
from causalmmm.engine.predict.curves import response_curves
from causalmmm.engine.predict.future import Future, forecast_controls
from causalmmm.engine.predict.graphs import store_graphs
from causalmmm.engine.predict.noise import Noise, draw_noise
from causalmmm.engine.predict.rollout import forecast
from causalmmm.engine.spec.calendar import CalendarSpec

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


GRAPHS = ("probability", "effect", "effect_lower", "effect_upper")
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
        scale = scale_of(history)  # [B, N]
        floor = torch.where(history.isnan(), 0.0, history).amin(1) >= 0
        batch = batch_of(inputs, scale, self.calendar, self.window)
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


def batch_of(
    inputs: Mapping[str, Tensor], scale: Tensor, calendar: ExportedCalendar, window: int
) -> Batch:
    """The last rows of every history, as the model takes them."""
    history = inputs["history"][:, -window:].mT  # [B, N, T]
    context_mask = ~history.isnan().any(1)
    rows = context_mask.to(history.dtype).unsqueeze(1)
    x = torch.where(context_mask.unsqueeze(1), history / scale.unsqueeze(-1), 0.0)
    count = rows.sum(-1, keepdim=True)
    x = torch.where(context_mask.unsqueeze(1), x, x.sum(-1, keepdim=True) / count)
    steps = history.shape[-1]
    position = torch.arange(steps, dtype=torch.float32) - (steps - 1)
    date = inputs["date"][:, -window:]
    basis = calendar(date, position)
    if "controls" in inputs:
        controls = calendar.standardise(inputs["controls"][:, -window:])
        basis = torch.cat([basis, controls], dim=-1)
    if "context" in inputs:
        first_row = (steps - count[:, 0].long()).unsqueeze(-1)  # [B, 1, 1]
        values = inputs["context"][:, -window:]  # [B, T, C]
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
