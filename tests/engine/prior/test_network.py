"""The network over pairs: equivariant, of any size, alone or with the stores of a panel."""

from __future__ import annotations

import torch

from causalmmm.engine.prior import PriorNetwork

FEATURES = 9


def network() -> PriorNetwork:
    torch.manual_seed(0)
    return PriorNetwork(FEATURES, width=8).eval()


@torch.no_grad()
def test_reordering_series_reorders_the_logits() -> None:
    net, features, order = network(), torch.randn(2, 5, 5, FEATURES), torch.randperm(5)
    moved = net(features[:, order][:, :, order])
    torch.testing.assert_close(moved, net(features)[:, order][:, :, order])


@torch.no_grad()
def test_a_store_alone_does_not_depend_on_others_and_one_in_a_panel_does() -> None:
    net, features = network(), torch.randn(3, 4, 4, FEATURES)
    torch.testing.assert_close(net(features)[:1], net(features[:1]))
    panel = net.states(features)[1].mean(0, keepdim=True)
    together = net(features, panel, torch.tensor([3.0]))
    assert not torch.allclose(together, net(features))
    alone = net(features[:1], net.states(features[:1])[1], torch.ones(1))
    torch.testing.assert_close(alone, net(features[:1]))


@torch.no_grad()
def test_statistics_far_beyond_training_are_bounded() -> None:
    net, features = network(), torch.randn(1, 3, 3, FEATURES)
    features[0, 0, 1, 0] = 1e6
    far = net(features)
    features[0, 0, 1, 0] = 1e9
    torch.testing.assert_close(net(features), far)
