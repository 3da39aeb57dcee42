"""AdamW against torch's own, and what it spares a fit."""

from __future__ import annotations

import subprocess
import sys

import torch

from causalmmm.engine.training.adamw import AdamW


def groups() -> list[dict[str, object]]:
    torch.manual_seed(0)
    first, second = (
        [torch.nn.Parameter(torch.randn(3, n)) for n in sizes] for sizes in ((2, 5), (1,))
    )
    return [
        {"params": first, "weight_decay": 0.1, "pace": 1.0},
        {"params": second, "weight_decay": 0.0, "pace": 3.0},
    ]


def steps(optimiser: AdamW | torch.optim.Optimizer, first: int, last: int) -> list[torch.Tensor]:
    """Updates by gradients that a seed gives; the last parameter has one in every other update."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for step in range(first, last):
        torch.manual_seed(step)
        optimiser.zero_grad()
        for parameter in parameters[: 3 - step % 2]:
            parameter.grad = torch.randn_like(parameter)
        for group in optimiser.param_groups:
            group["lr"] = 1e-2 / (1 + step) * group["pace"]
        optimiser.step()
    return [p.detach().clone() for p in parameters]


def test_updates_are_those_of_torch_bit_for_bit() -> None:
    mine, reference = AdamW(groups(), 1e-2), torch.optim.AdamW(groups(), lr=1e-2, fused=True)
    for found, expected in zip(steps(mine, 0, 7), steps(reference, 0, 7), strict=True):
        assert torch.equal(found, expected)


def test_a_restored_state_goes_on_as_if_nothing_had_happened() -> None:
    whole = AdamW(groups(), 1e-2)
    steps(whole, 0, 3)
    parts = AdamW(groups(), 1e-2)
    steps(parts, 0, 3)
    saved = {"state": {k: dict(v) for k, v in parts.state_dict()["state"].items()}}
    parts.state = {}
    parts.load_state_dict(saved)
    for found, expected in zip(steps(parts, 3, 6), steps(whole, 3, 6), strict=True):
        assert torch.equal(found, expected)


def test_a_fit_does_not_import_torchs_compiler() -> None:
    """It takes longer than a small fit, and no part of it is used."""
    program = (
        "import sys, causalmmm\n"
        "panel, _ = causalmmm.simulate('paper-small', stores=6, steps=40, seed=0)\n"
        "model = causalmmm.CausalMMM(epochs=1, structure='learned')\n"
        "model.fit(panel, progress=False)\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
