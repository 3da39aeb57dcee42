"""Counterfactuals agree with a store worked out one step at a time in plain Python."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from tests.engine.regression_panels import GROUPS, weekly

from causalmmm.engine.decisions import Equation, System, path_effects, regression_system
from causalmmm.engine.regression import RegressionConfig, fit, layout, store_posterior
from causalmmm.engine.regression.contributions import contributions

D, B, T = 3, 2, 9
TV, WEB, SEARCH, SALES = range(4)


def numbers(seed: int, *shape: int, low: float = 0.2, high: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)


def equation(seed: int, senders: tuple[int, ...], late: tuple[bool, ...]) -> Equation:
    n = len(senders)
    return Equation(
        senders,
        late,
        decay=numbers(seed, D, n, high=0.7),
        slope=numbers(seed + 1, D, n, low=0.8, high=2),
        half=numbers(seed + 2, D, n),
        effect=numbers(seed + 3, D, B, n),
        unit=numbers(seed + 4, B, n),
        stock=numbers(seed + 5, D, B, n),
        last=numbers(seed + 6, B, n),
        own=numbers(seed + 7, D, B, high=0.6),
        noise=numbers(seed + 8, D, B),
    )


@pytest.fixture
def system() -> System:
    """tv and web drive search and sales; search drives sales; web acts on sales a step later."""
    return System(
        {
            SEARCH: equation(0, (TV, WEB), (False, False)),
            SALES: equation(20, (TV, WEB, SEARCH), (False, True, False)),
        },
        numbers(99, 1, B, 4, T, low=0.5, high=2),
    )


def stepwise(system: System, spend: dict[int, torch.Tensor], d: int, b: int) -> list[float]:
    """The target's change, series by series and step by step."""
    before = {j: system.series[0, b, j].tolist() for j in range(4)}
    now = {**before, **{j: x[0, b].tolist() for j, x in spend.items()}}
    result: list[float] = []
    for j, e in system.equations.items():
        change, result = 0.0, []
        stocks = {side: e.stock[d, b].tolist() for side in ("before", "now")}
        for t in range(T):
            change *= float(e.own[d, b])
            for p, sender in enumerate(e.senders):
                decay, slope, half = (float(s[d, p]) for s in (e.decay, e.slope, e.half))
                for side, series, sign in (("before", before, -1), ("now", now, 1)):
                    x = series[sender][t] * float(e.unit[b, p])
                    if e.late[p]:
                        x = float(e.last[b, p])
                        if t:
                            x = series[sender][t - 1] * float(e.unit[b, p])
                    stocks[side][p] = decay * stocks[side][p] + (1 - decay) * x
                    hill = 1 / (1 + math.exp(-slope * math.log(stocks[side][p] / half)))
                    change += sign * float(e.effect[d, b, p]) * hill
            result.append(change)
        now[j] = [old + c for old, c in zip(before[j], result, strict=True)]
    return result


def test_a_change_of_spend_is_rolled_through_the_mediator_and_the_own_past(system: System) -> None:
    spend = {TV: system.series[:, :, TV] * 0.3, WEB: system.series[:, :, WEB] + 0.4}
    found = system.change(spend)
    assert found.shape == (D, B, T)
    for d in range(D):
        for b in range(B):
            expected = torch.tensor(stepwise(system, spend, d, b), dtype=torch.float64)
            torch.testing.assert_close(found[d, b], expected, rtol=1e-10, atol=1e-12)


def test_spend_as_it_was_changes_nothing_to_the_bit(system: System) -> None:
    assert not system.change({TV: system.series[:, :, TV]}).any()
    assert not system.change({}).any()


def test_an_absent_edge_changes_nothing_to_the_bit(system: System) -> None:
    equations = {}
    for j, e in system.equations.items():
        without_first = torch.tensor([0.0] + [1.0] * (len(e.senders) - 1))
        equations[j] = dataclasses.replace(e, effect=e.effect * without_first)
    cut = dataclasses.replace(system, equations=equations)
    assert not cut.change({TV: 5 * system.series[:, :, TV]}).any()


def test_a_later_change_does_not_reach_back(system: System) -> None:
    spend = system.series[:, :, WEB].clone()
    spend[..., 5:] = 0
    changed = system.change({WEB: spend})
    assert not changed[..., :5].any()
    assert changed[..., 6:].all()


def chained() -> System:
    """As ``system``, with a second mediator between: visits, which search drives a step later."""
    tv, web, search, visits, sales = range(5)
    return System(
        {
            search: equation(0, (tv, web), (False, False)),
            visits: equation(40, (web, search), (True, False)),
            sales: equation(20, (tv, search, visits), (False, True, False)),
        },
        numbers(98, 1, B, 5, T, low=0.5, high=2),
    )


@pytest.mark.parametrize("build", [chained, None], ids=["two mediators", "one"])
def test_effects_of_all_plans_are_the_counterfactuals_one_by_one(
    build: Callable[[], System] | None, system: System
) -> None:
    system = system if build is None else build()
    channels, factors = [TV, WEB], (0.0, 1.01)
    period, counted = torch.zeros(B, T, dtype=torch.bool), numbers(7, B, T)
    period[:, 2:6] = True
    for factor, found in zip(
        factors, path_effects(system, channels, factors, period, counted), strict=True
    ):
        spend = {c: system.series[:, :, c] * torch.where(period, factor, 1.0) for c in channels}
        for column, moved in enumerate([*({c: spend[c]} for c in channels), spend]):

            def lost(
                through: list[int] | None, moved: dict[int, torch.Tensor] = moved
            ) -> torch.Tensor:
                return -(system.change(moved, through) * counted).sum(-1)

            torch.testing.assert_close(found.total[..., column], lost(None))
            torch.testing.assert_close(found.direct[..., column], lost([]))
            for m, mediator in enumerate(system.mediators):
                torch.testing.assert_close(found.via[..., column, m], lost([mediator]) - lost([]))


def test_effects_in_single_precision_are_those_in_double(system: System) -> None:
    everything = torch.ones(B, T)
    arguments = ([TV, WEB], (0.0, 1.01), everything.bool(), everything)
    exact, single = (path_effects(s, *arguments) for s in (system, system.to(torch.float32)))
    torch.testing.assert_close(single[0].total, exact[0].total, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(single[1].total, exact[1].total, rtol=2e-3, atol=1e-6)


def test_the_paths_of_a_channel_sum_to_its_total(system: System) -> None:
    everything = torch.ones(B, T)
    (found,) = path_effects(system, [TV, WEB], (0.0,), everything.bool(), everything)
    torch.testing.assert_close(found.direct + found.via.sum(-1), found.total)


def test_a_fitted_regression_gives_the_sums_of_its_decomposition() -> None:
    drawn = weekly(3, mediator=True)
    roles = ("channel",) * 3 + ("mediator", "target")
    config = RegressionConfig(draws=100)
    regression = fit(drawn.observed, layout(roles), GROUPS, config)
    stores = store_posterior(regression, drawn.observed, receivers=[3, 4])
    system, rows = regression_system(stores), drawn.observed.mask
    (found,) = path_effects(system, [0, 1, 2], (0.0,), rows, rows.double())
    added = contributions(stores)  # these count what was carried in before the first row, too
    for one, other in ((found.direct, added.sums), (found.total, added.total_sums)):
        one, other = one[..., :3], other[..., :3]
        torch.testing.assert_close(one.mean(0), other.mean(0), rtol=0.01, atol=0.0)
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.1)
    later = regression_system(stores, begin=rows.shape[1] - 5)
    half = {0: later.series[:, :, 0] * 0.5}
    whole = system.series[:, :, 0].clone()
    whole[..., -5:] *= 0.5
    torch.testing.assert_close(later.change(half), system.change({0: whole})[..., -5:])
