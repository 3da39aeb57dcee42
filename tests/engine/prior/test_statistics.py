"""Statistics of pairs: the same for all pairs, and aware of effects within the step."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from causalmmm.engine.prior import PairStatistics, PanelKind, pair_statistics
from causalmmm.engine.prior.statistics import known_features

STEPS = 120


def read(x: Tensor, roles: tuple[str, ...], period: str = "D") -> PairStatistics:
    """Statistics of series [B, N, T] without a calendar but their mean."""

    def residual(series: Tensor) -> Tensor:
        return series - series.mean(-1, keepdim=True)

    signs = torch.zeros(len(roles), len(roles), dtype=torch.bool)
    rows = torch.ones(len(x), x.shape[-1], dtype=torch.bool)
    left = residual(x)
    kind = PanelKind(roles, period, signs)
    return pair_statistics(x, left, left, torch.ones_like(x), rows, residual, kind)


def noise(stores: int, nodes: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(stores, nodes, STEPS, generator=generator) + 3


def test_reordering_channels_reorders_statistics_and_changes_nothing_else() -> None:
    x, roles = noise(2, 4), ("channel", "channel", "channel", "target")
    order = torch.tensor([2, 0, 1, 3])
    plain, moved = read(x, roles), read(x[:, order], roles)
    expected = plain.features[:, order][:, :, order]
    torch.testing.assert_close(moved.features, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        moved.log_bf, plain.log_bf[:, order][:, :, order], rtol=1e-3, atol=1e-3
    )


def test_a_store_is_read_alike_alone_and_in_company() -> None:
    x, roles = noise(3, 3), ("channel", "mediator", "target")
    alone = read(x[1:2], roles).features
    torch.testing.assert_close(read(x, roles).features[1:2], alone, rtol=1e-4, atol=1e-5)


def test_constant_and_repeated_series_give_finite_statistics() -> None:
    x = noise(1, 4)
    x[:, 1], x[:, 2] = 5.0, x[:, 0]
    assert read(x, ("channel",) * 3 + ("target",)).features.isfinite().all()


def test_effects_within_the_step_are_seen_where_roles_order_the_pair() -> None:
    """The first channel acts on the target at once, the second one step later."""
    x = noise(1, 4)
    x[:, 3] += 0.8 * x[:, 0] + 0.8 * x[:, 1].roll(1, -1)
    features = read(x, ("channel", "channel", "channel", "target"), "W").features[0]
    # 19 window statistics, ARD; then evidence, size and sign of responses after and within a step
    after, within = features[:, 3, 20], features[:, 3, 23]
    assert within[0] > after[0] + 2
    assert min(after[1], within[1]) > 1.5  # carry-over reaches back over a step
    assert within[2] < 1 > after[2]
    assert features[0, 3, 25] > 0.5 > features[2, 3, 25], "the sign of the effect"
    torch.testing.assert_close(features[3, 0, 20:23], features[3, 0, 23:26])  # nothing acts back


def test_what_is_known_beforehand_depends_on_roles_signs_and_period_only() -> None:
    roles = ("channel", "organic", "mediator", "target")
    signs = torch.zeros(4, 4, dtype=torch.bool)
    signs[0, 3] = True
    days, weeks = (known_features(PanelKind(roles, p, signs)) for p in ("D", "W"))
    np.testing.assert_array_equal(days[0, 2], days[1, 2])  # organic series are read as spend
    assert days[0, 3, 6] == 1
    assert days[1, 3, 6] == 0
    assert days[2, 3, 7] == 1
    assert days[3, 2, 7] == 0
    assert (weeks - days).abs().sum() == 16  # the mark of coarse steps, once per pair
