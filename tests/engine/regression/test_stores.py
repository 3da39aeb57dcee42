"""The response regression as its users meet it: contributions, forecasts, graphs, stores, state."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from regression_panels import GROUPS, Drawn, weekly

from causalmmm.engine.regression import (
    Ahead,
    Observed,
    Regression,
    RegressionConfig,
    contributions,
    curves,
    fit,
    forecast,
    graphs,
    layout,
    observe,
    simulate,
    store_posterior,
)
from causalmmm.engine.regression.level import no_shifts
from causalmmm.engine.regression.posterior import draw, know
from causalmmm.engine.regression.state import same

ROLES = ("channel", "channel", "channel", "target")
WITH_MEDIATOR = ("channel", "channel", "channel", "mediator", "target")
CONFIG = RegressionConfig(iterations=80, scout=20, draws=60)


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return weekly(0)


@pytest.fixture(scope="module")
def fitted(drawn: Drawn) -> Regression:
    return fit(drawn.observed, layout(ROLES), GROUPS, CONFIG)


@pytest.fixture(scope="module")
def mediated() -> tuple[Drawn, Regression]:
    panel = weekly(1, mediator=True, ahead=6)
    return panel, fit(panel.observed, layout(WITH_MEDIATOR), GROUPS, CONFIG)


def test_parts_sum_to_the_prediction(drawn: Drawn, fitted: Regression) -> None:
    parts = contributions(store_posterior(fitted, drawn.observed))
    total = parts.baseline + parts.level + parts.own + parts.senders.sum(1)
    torch.testing.assert_close(total, parts.predicted)
    left = drawn.observed.x[:, -1] - parts.predicted
    assert left.std() < 0.06  # the noise it was drawn with, in units of the level, is below 0.05


def test_contributions_are_near_the_truth(drawn: Drawn, fitted: Regression) -> None:
    parts = contributions(store_posterior(fitted, drawn.observed))
    estimate = parts.sums.mean(0)[:, :3]
    assert ((estimate - drawn.sums).sum(0).abs().sum() / drawn.sums.sum()) < 0.2


@pytest.mark.parametrize("gain", [0.0, 3.0])
def test_a_forbidden_sender_has_no_influence_by_a_bit(drawn: Drawn, gain: float) -> None:
    prior = layout(ROLES).prior
    prior[1, 3] = 0.0
    plan = layout(ROLES, prior=prior)
    changed = drawn.observed.x.clone()
    changed[:, 1] *= gain
    other = Observed(**{**vars(drawn.observed), "x": changed})
    found = [store_posterior(fit(o, plan, GROUPS, CONFIG, [3]), o) for o in (drawn.observed, other)]
    parts = [contributions(stores) for stores in found]
    for name in ("baseline", "level", "own", "predicted"):
        assert torch.equal(getattr(parts[0], name), getattr(parts[1], name))
    assert (parts[0].senders[:, 1] == 0).all()
    assert (parts[0].sums[..., 1] == 0).all()
    table = graphs(found[0])
    assert (table.probability[:, 1, 3] == 0).all()
    assert (table.effect[:, 1, 3] == 0).all()


def test_only_role_order_acts_within_a_step() -> None:
    plan = layout(("channel", "organic", "mediator", "mediator", "target"), mediator_rank=(0, 1))
    expected = torch.tensor(
        [
            [0, 0, 1, 1, 1],
            [0, 0, 1, 1, 1],
            [0, 0, 0, 1, 1],
            [0, 0, 0, 0, 1],
            [0, 0, 0, 0, 0],
        ],
        dtype=torch.bool,
    )
    assert torch.equal(plan.instant, expected)
    waiting = layout(("channel", "channel", "target"), reactive=[1])
    assert waiting.instant[:, 2].tolist() == [True, False, False]
    assert waiting.shaped(2)


def test_a_reactive_channel_has_no_influence_within_the_step_by_a_bit(drawn: Drawn) -> None:
    panel = weekly(0, ahead=6)
    plan = layout(ROLES, reactive=[0])
    regression = fit(panel.observed, plan, GROUPS, CONFIG, [3])
    ahead = _ahead(panel)
    stores = store_posterior(regression, panel.observed)
    before = simulate(stores, ahead)
    for node, at_once in ((0, False), (1, True)):
        given = ahead.given.clone()
        given[:, node, 2] *= 5.0
        after = simulate(stores, replace(ahead, given=given))
        same = (before[:, :, -1] == after[:, :, -1]).all(1).all(0)  # by step
        assert same.tolist() == [True, True, not at_once, False, False, False]
    history = panel.observed.x.clone()
    history[:, 0, -1] *= 5.0
    other = replace(panel.observed, x=history)
    for design in (stores.known[3].problem.design, know(regression, other, 3).problem.design):
        assert design.exposure[:, 0, -1].equal(
            panel.observed.x[:, 0, -2] * stores.known[3].unit[:, 0]
        )


def test_the_target_of_a_step_does_not_see_later_spend(
    mediated: tuple[Drawn, Regression],
) -> None:
    panel, regression = mediated
    stores = store_posterior(regression, panel.observed)
    ahead = _ahead(panel)
    values = simulate(stores, ahead)
    for name, node, step, same_step in (("spend", 0, 3, True), ("target", 4, 3, False)):
        given = ahead.given.clone()
        given[:, node, step] = 9.0
        moved = simulate(stores, Ahead(ahead.basis, ahead.control_std, given, ahead.floor))
        assert torch.equal(moved[..., :step], values[..., :step]), name
        changed = (moved[:, :, 3, step] != values[:, :, 3, step]).any()
        assert bool(changed) == same_step, name


def test_a_store_alone_is_the_store_in_company(drawn: Drawn, fitted: Regression) -> None:
    everyone = contributions(store_posterior(fitted, drawn.observed))
    alone = contributions(store_posterior(fitted, drawn.observed.select(torch.tensor([2]))))
    torch.testing.assert_close(alone.sums[:, 0], everyone.sums[:, 2])
    torch.testing.assert_close(alone.predicted[0], everyone.predicted[2])


def test_padding_says_nothing(drawn: Drawn, fitted: Regression) -> None:
    whole = drawn.observed
    cut = Observed(
        whole.x[1:2, :, 30:],
        whole.basis[1:2, 30:],
        whole.mask[1:2, 30:],
        whole.scale[1:2],
        whole.store[1:2],
        whole.position[1:2, 30:],
    )
    alone = observe(**vars(cut))
    mask = whole.mask.clone()
    mask[1, :30] = False
    poisoned = whole.x.clone()
    poisoned[1, :, :30] = 1e3
    padded = observe(**{**vars(whole), "x": poisoned, "mask": mask})
    first = contributions(store_posterior(fitted, alone))
    second = contributions(store_posterior(fitted, padded))
    single = {"rtol": 1e-6, "atol": 1e-7}  # of draws' responses, which begin at another step
    torch.testing.assert_close(first.sums[:, 0], second.sums[:, 1], **single)
    torch.testing.assert_close(first.predicted[0], second.predicted[1, 30:])


def test_a_saved_regression_is_the_same(fitted: Regression) -> None:
    assert same(fitted, Regression.from_state(*fitted.state()))


def test_the_same_seed_gives_the_same_fit(drawn: Drawn, fitted: Regression) -> None:
    again = fit(drawn.observed, layout(ROLES), GROUPS, CONFIG)
    assert same(fitted, again)


def test_a_level_shift_is_booked_to_the_level() -> None:
    found = []
    for panel in (weekly(3), weekly(3, shift=-0.5)):
        stores = store_posterior(
            fit(panel.observed, layout(ROLES), GROUPS, CONFIG, [3]), panel.observed
        )
        parts = contributions(stores)
        found.append((parts.sums.mean(0)[:, :3] / panel.sums).mean(0))
    assert ((found[1] / found[0] - 1).abs() < 0.2).all()
    carried = parts.level[:, 80:].mean(1) - parts.level[:, :40].mean(1)
    step = -0.5 / panel.observed.scale[:, -1]
    assert ((carried / step - 1).abs() < 0.25).all()


def test_without_a_shift_there_is_no_level(fitted: Regression, drawn: Drawn) -> None:
    known = know(fitted, drawn.observed, 3)
    assert known.shifts.scale.shape == no_shifts(4).scale.shape


def test_effects_are_drawn_around_those_of_stores_that_have_the_edge(
    drawn: Drawn, fitted: Regression
) -> None:
    receiver = fitted.receivers[3]
    shapes = know(fitted, drawn.observed, 3).problem.spec.unpack(receiver.theta)
    sure = replace(receiver, effect_mean=2 * shapes.mean, effect_sd=1e-6 * shapes.mean)
    known = know(replace(fitted, receivers={**fitted.receivers, 3: sure}), drawn.observed, 3)
    found = draw(known, drawn.observed, 60, seed=0, everything=True)
    theta = receiver.theta_draws[torch.arange(60) % len(receiver.theta_draws)]
    centre = known.problem.spec.unpack(theta).mean
    expected = 2 * centre.unsqueeze(1).expand_as(found.effects)
    torch.testing.assert_close(found.effects, expected, rtol=1e-3, atol=1e-6)


def test_intervals_of_its_own_law_hold() -> None:
    held, ahead_held = [], []
    for seed in range(3):
        panel = weekly(10 + seed, ahead=8)
        regression = fit(panel.observed, layout(ROLES), GROUPS, CONFIG, [3])
        stores = store_posterior(regression, panel.observed, draws=200)
        ends = (
            contributions(stores)
            .sums[..., :3]
            .quantile(torch.tensor([0.05, 0.95], dtype=torch.float64), 0)
        )
        held.append((ends[0] <= panel.sums) & (panel.sums <= ends[1]))
        _, bounds = forecast(stores, _ahead(panel), torch.tensor([0.9]))
        truth = panel.values[:, -1]
        ahead_held.append((bounds[:, -1, :, 0] <= truth) & (truth <= bounds[:, -1, :, 1]))
    assert torch.stack(held).double().mean() > 0.7
    assert 0.75 < torch.stack(ahead_held).double().mean() <= 1.0


def test_planned_values_are_taken_as_given(mediated: tuple[Drawn, Regression]) -> None:
    panel, regression = mediated
    ahead = _ahead(panel)
    mean, ends = forecast(store_posterior(regression, panel.observed), ahead, torch.tensor([0.8]))
    planned = ~ahead.given.isnan()
    torch.testing.assert_close(mean[planned], ahead.given[planned])
    assert (ends[~planned][:, 0] < ends[~planned][:, 1]).all()


def test_what_mediators_carry_is_in_the_total(mediated: tuple[Drawn, Regression]) -> None:
    panel, regression = mediated
    parts = contributions(store_posterior(regression, panel.observed))
    carried = (parts.total - parts.senders).sum(-1)
    assert (carried[:, 0] > 0).all()  # the channel that drives the mediator
    assert (carried[:, 0] > 3 * carried[:, 1:3].abs().amax(1)).all()
    assert torch.equal(parts.total[:, 3], parts.senders[:, 3])


def test_a_curve_is_the_effect_of_constant_spend(drawn: Drawn, fitted: Regression) -> None:
    stores = store_posterior(fitted, drawn.observed)
    amounts = torch.tensor([0.0, 0.5, 1.0, 4.0], dtype=torch.float64).expand(4, 4, 4)
    table = curves(stores, amounts)
    assert (table.effect[:, :3, 0] == 0).all()
    assert (table.effect[:, :3].diff(dim=-1) > 0).all()
    assert (table.lower <= table.upper).all()
    known = stores.known[3]
    posterior_draws = draw(known, drawn.observed, 60, 1, everything=True)
    shapes = posterior_draws.shapes
    half, slope = shapes.half[:, None, :], shapes.slope[:, None, :]
    exposure = 4.0 * known.unit
    response = exposure**slope / (exposure**slope + half**slope)
    torch.testing.assert_close(table.effect[:, :3, 3], (posterior_draws.effects * response).mean(0))


def test_graphs_find_who_drives_the_target(drawn: Drawn, fitted: Regression) -> None:
    table = graphs(store_posterior(fitted, drawn.observed))
    assert (table.probability[:, :3, 3] > 0.8).all()
    assert table.probability[:, 3, :3].mean() < 0.5
    assert (table.lower <= table.upper).all()


def _ahead(panel: Drawn) -> Ahead:
    given = panel.values.clone()
    given[:, 3:] = torch.nan
    stores, nodes, steps = given.shape
    return Ahead(
        panel.basis,
        torch.zeros(stores, steps, 0, dtype=torch.float64),
        given,
        torch.ones(stores, nodes, dtype=torch.bool),
    )
