"""Responses later by their delays: what arrives when, the gradient, and torch's rules."""

from __future__ import annotations

import pytest
import torch
from torch import library

from causalmmm.kernels.response import delayed, reference

pytest.importorskip("causalmmm._C", reason="needs the compiled extension")

DELAYS = (0, 2, 2, 5, 30)  # the last is longer than the window


@pytest.mark.parametrize("rows", [1, 8, 9])
@pytest.mark.parametrize("function", [delayed, reference.delayed])
def test_every_response_arrives_after_its_delay(place: torch.device, function, rows: int) -> None:
    """Before, a component has its first value; gradients go where they came from."""
    response = torch.randn(2, 3, len(DELAYS), 9, device=place, requires_grad=True)
    weight = torch.randn(2, 3, len(DELAYS), rows, device=place)
    found = function(response, DELAYS, rows)
    (gradient,) = torch.autograd.grad((weight * found).sum(), response)
    expected = torch.zeros(2, 3, len(DELAYS), 9, device=place)
    for component, delay in enumerate(DELAYS):
        for row in range(rows):
            source = max(0, row - delay)
            assert torch.equal(found[:, :, component, row], response[:, :, component, source])
            expected[:, :, component, source] += weight[:, :, component, row]
    torch.testing.assert_close(gradient, expected)


def test_the_operators_keep_torchs_rules() -> None:
    response = torch.randn(2, 3, 2, 9, requires_grad=True)
    library.opcheck(torch.ops.causalmmm.delayed.default, (response, [0, 3], 8))
    library.opcheck(
        torch.ops.causalmmm.delayed_backward.default, (torch.randn(2, 3, 2, 8), [0, 3], 9)
    )


def test_what_cannot_be_kept_is_refused() -> None:
    with pytest.raises(ValueError, match="at most all rows can be kept"):
        delayed(torch.randn(1, 1, 1, 4), (0,), 5)
