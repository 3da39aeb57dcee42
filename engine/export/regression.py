"""The exported computation of a response regression: from histories to all results in user units.

Calls the engine's own functions, as ``graph`` does for the amortised model: coefficients, level
shifts, graphs and draws follow from the rows that the graph is given, shapes are those fitted.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from causalmmm.engine.decisions import path_effects, regression_system
from causalmmm.engine.export.calendar import ExportedCalendar, StepNumber, scale_of
from causalmmm.engine.predict.future import forecast_controls
from causalmmm.engine.regression import (
    Ahead,
    Observed,
    Regression,
    StorePosterior,
    contributions,
    curves,
    forecast,
    graphs,
    observe,
    store_posterior,
)
from causalmmm.engine.regression.contributions import mean_parts
from causalmmm.engine.spec.calendar import CalendarSpec

# Beside those of ``graph``: ``store`` is the key of a store's draws; the others say what the
# ``RETURNS`` are of: steps whose spend counts (above zero), and what a unit of the target is worth
# there and in the steps of ``future_date``, whose plan says how spend goes on.
INPUTS = {
    "store": ("batch",),
    "period": ("batch", "time"),
    "worth": ("batch", "time"),
    "future_worth": ("batch", "horizon"),
}
# Joint draws: sums over the history of every series' contribution, and what the spend of the period
# brought by channel and by all of them together.
SUMS = {
    "direct_sum": ("draw", "batch", "series"),
    "total_sum": ("draw", "batch", "series"),
}
RETURNS = {
    "outcome": ("draw", "batch", "column"),
    "outcome_direct": ("draw", "batch", "column"),
    "outcome_via": ("draw", "batch", "column", "mediator"),
    "outcome_marginal": ("draw", "batch", "column"),
}


class ExportedRegression(nn.Module):
    """``forward`` maps inputs to ``graph.OUTPUTS``, ``SUMS`` and ``RETURNS``; inputs without
    columns are omitted, and so is context. ``step`` is the share of spend by which a marginal
    return is measured.
    """

    def __init__(
        self, regression: Regression, calendar: CalendarSpec, *, window: int, seed: int, step: float
    ) -> None:
        super().__init__()
        self.regression, self.window, self.seed, self.step = regression, window, seed, step
        self.calendar = ExportedCalendar(calendar)
        self.number = StepNumber(calendar.freq)

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        history = inputs["history"]
        scale = scale_of(history)  # [B, N]
        floor = torch.where(history.isnan(), 0.0, history).amin(1) >= 0
        observed = self._observed(inputs, scale)
        stores = store_posterior(self.regression, observed, seed=self.seed)
        table = graphs(stores)
        unit = scale.unsqueeze(1)
        results = {
            "probability": table.probability.to(torch.float32),
            "effect": table.effect.to(torch.float32) * unit,
            "effect_lower": table.lower.to(torch.float32) * unit,
            "effect_upper": table.upper.to(torch.float32) * unit,
        }
        ahead = self._ahead(inputs, observed, scale, floor)
        mean, bounds = forecast(stores, ahead, inputs["level"], self.seed)
        results["mean"] = mean.to(torch.float32) * scale.unsqueeze(-1)
        results["bounds"] = bounds.to(torch.float32) * scale.unsqueeze(-1).unsqueeze(-1)
        parts = mean_parts(stores).to(torch.float32)
        results["contribution"] = parts[:, :-1] * scale[:, -1:].unsqueeze(-1)
        amounts = inputs["amounts"].mT / scale.unsqueeze(-1)
        found = curves(stores, amounts)
        for name, part in (
            ("response", found.effect),
            ("response_lower", found.lower),
            ("response_upper", found.upper),
            ("response_expected", found.expected),
        ):
            results[name] = (part.to(torch.float32) * scale[:, -1:].unsqueeze(-1)).mT
        summed = contributions(stores)
        for name, drawn in (("direct_sum", summed.sums), ("total_sum", summed.total_sums)):
            results[name] = drawn * scale[:, -1:]
        return results | self._returns(inputs, stores, ahead, scale)

    def _returns(
        self, inputs: Mapping[str, Tensor], stores: StorePosterior, ahead: Ahead, scale: Tensor
    ) -> dict[str, Tensor]:
        """What the spend of the period brought, as ``decisions.effects`` asks for it."""
        rank = self.regression.layout.rank
        outcomes = [j for j in range(len(rank)) if rank[j] > 0]
        senders = [j for j in range(len(rank)) if rank[j] == 0]
        system = regression_system(stores.of(outcomes), ahead).to(torch.float32)
        now, after = inputs["worth"][:, -self.window :], inputs["future_worth"]
        worth = torch.cat([now, after], 1) * scale[:, -1:]
        period = torch.cat([inputs["period"][:, -self.window :], torch.zeros_like(after)], 1) > 0
        kept, more = path_effects(system, senders, (0.0, 1 + self.step), period, worth)
        return {
            "outcome": kept.total,
            "outcome_direct": kept.direct,
            "outcome_via": kept.via,
            "outcome_marginal": -more.total,
        }

    def _observed(self, inputs: Mapping[str, Tensor], scale: Tensor) -> Observed:
        """The last rows of every history, as the regression takes them."""
        history = inputs["history"][:, -self.window :].mT  # [B, N, T]
        mask = ~history.isnan().any(1)
        x = torch.where(mask.unsqueeze(1), history / scale.unsqueeze(-1), 0.0)
        since = torch.arange(history.shape[-1]) - (history.shape[-1] - 1)
        date = inputs["date"][:, -self.window :]
        basis = self.calendar(date, since.to(torch.float64))
        if "controls" in inputs:
            controls = self.calendar.standardise(inputs["controls"][:, -self.window :])
            basis = torch.cat([basis, controls], dim=-1)
        position = self.number(date[:, -1:]) + since
        return observe(x, basis, mask, scale, inputs["store"], position)

    def _ahead(
        self, inputs: Mapping[str, Tensor], observed: Observed, scale: Tensor, floor: Tensor
    ) -> Ahead:
        steps = inputs["future_date"].shape[1]
        basis = self.calendar(inputs["future_date"], torch.arange(steps, dtype=torch.float64) + 1.0)
        control_std = basis[..., :0]
        if "controls" in inputs:
            planned = self.calendar.standardise_known(inputs["future_controls"])
            history = observed.basis[..., -planned.shape[-1] :].to(torch.float32)
            expected, control_std = forecast_controls(history, observed.mask, planned)
            basis = torch.cat([basis, expected], dim=-1)
        given = (inputs["plan"] / scale.unsqueeze(1)).mT
        return Ahead(basis, control_std, given, floor)
