"""Training on a GPU: replayed graphs take the steps that single launches take, and a CPU's."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from small import build

from causalmmm.engine.config import TrainConfig
from causalmmm.engine.model import CausalModel
from causalmmm.engine.train import train
from causalmmm.engine.update import Updates
from causalmmm.engine.windows import Windows

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
pytest.importorskip("triton", reason="needs the optional extra triton")


def updated(
    model: CausalModel, windows: Windows, sizes: list[int], graphs: bool
) -> list[list[float]]:
    """Losses of one update per size of a batch; the model ends up updated."""
    groups = [{"params": list(model.parameters()), "pace": 1.0}]
    update = Updates(model, groups, TrainConfig(), stores=3, device=torch.device("cuda"))
    update.capturing = graphs
    rng = np.random.default_rng(0)
    losses = []
    for step, size in enumerate(sizes):
        batch = windows.cross(np.arange(size), 0.4, rng)
        options = {"temperature": 1 / (1 + step), "seed": 2**40 + step, "kl_weight": 0.1 * step}
        losses.append(update(batch, rate=1e-2 / (1 + step), alone=None, **options).tolist())
    assert len(update.captured) == (len(set(sizes[3:])) if graphs else 0)
    return losses


@pytest.mark.parametrize("amp", [False, True], ids=["float32", "bfloat16"])
def test_replayed_updates_are_those_launched_one_by_one(windows: Windows, amp: bool) -> None:
    one = build(hidden=32).cuda().train()
    one.autocast = amp
    two = copy.deepcopy(one)
    sizes = [3, 3, 3, 3, 2, 3, 2, 2, 3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replayed = updated(one, windows, sizes, graphs=True)
    launched = updated(two, windows, sizes, graphs=False)
    np.testing.assert_allclose(replayed, launched, rtol=1e-4)
    for mine, other in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4)


def test_training_goes_as_on_a_cpu(windows: Windows) -> None:
    config = TrainConfig(epochs=12, amp=False, patience=20)
    histories = []
    for place in ("cpu", "cuda"):
        model = build(hidden=32, store_effects=False).to(place)
        histories.append(train(model, windows, config, seed=0, device=torch.device(place)))
    on_cpu, on_gpu = ([report.train for report in history] for history in histories)
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=5e-3)


def test_the_same_seed_gives_the_same_bits(windows: Windows) -> None:
    models = [build(hidden=32).cuda() for _ in range(2)]
    for model in models:
        train(model, windows, TrainConfig(epochs=12), seed=0, device=torch.device("cuda"))
    for mine, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(mine, other)
