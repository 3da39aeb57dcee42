"""Training on a GPU: replayed graphs take the steps that single launches take, and a CPU's."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from small import build

from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.spec.config import TrainConfig
from causalmmm.engine.training.checkpoint import EpochReport
from causalmmm.engine.training.cuda_graphs import Updates
from causalmmm.engine.training.loop import train
from causalmmm.engine.training.validation import Validation

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
    update.graphs.capturing = graphs
    rng = np.random.default_rng(0)
    losses, store_log_bf = [], None
    if model.config.structure == "evidence":
        store_log_bf = torch.linspace(-3, 3, 16, device="cuda").view(1, 4, 4)
    for step, size in enumerate(sizes):
        batch = windows.cross(np.arange(size), 0.4, rng)
        options = {"temperature": 1 / (1 + step), "seed": 2**40 + step, "kl_weight": 0.1 * step}
        log_bf = None if store_log_bf is None else store_log_bf.expand(size, 4, 4).clone()
        losses.append(
            update(batch, rate=1e-2 / (1 + step), store_log_bf=log_bf, **options).tolist()
        )
    assert len(update.graphs.captured) == (len(set(sizes[3:])) if graphs else 0)
    return losses


@pytest.mark.parametrize("structure", ["learned", "evidence"])
@pytest.mark.parametrize("amp", [False, True], ids=["float32", "bfloat16"])
def test_replayed_updates_are_those_launched_one_by_one(
    windows: Windows, amp: bool, structure: str
) -> None:
    one = build(hidden=32, structure=structure).cuda().train()
    one.narrow_edges = amp
    two = copy.deepcopy(one)
    sizes = [3, 3, 3, 3, 2, 3, 1, 2, 2, 1, 3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replayed = updated(one, windows, sizes, graphs=True)
    launched = updated(two, windows, sizes, graphs=False)
    np.testing.assert_allclose(replayed, launched, rtol=1e-4)
    for mine, other in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("resident", [True, False], ids=["resident", "from the host"])
def test_a_replayed_validation_is_the_one_on_a_cpu(windows: Windows, resident: bool) -> None:
    """Two shapes of batches; the weights change between validations."""
    on_cpu = build(hidden=32, store_effects=False)
    on_gpu = copy.deepcopy(on_cpu).cuda()
    gpu = torch.device("cuda")
    options = {"seed": 0, "stores_per_batch": 2, "training_stores": 3}
    inputs = np.arange(3), TrainConfig(temperature=(1.0, 1.0))
    expected = Validation(on_cpu, windows, *inputs, device=torch.device("cpu"), **options)
    found = Validation(
        on_gpu, windows.on(gpu) if resident else windows, *inputs, device=gpu, **options
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(4):
            assert found(None) == pytest.approx(expected(None), rel=5e-3)
            with torch.no_grad():
                for model in (on_cpu, on_gpu):
                    for parameter in model.parameters():
                        parameter.mul_(0.99)
    assert len(found.graphs.captured) == 2


def test_training_goes_as_on_a_cpu(windows: Windows) -> None:
    config = TrainConfig(epochs=12, amp=False, patience=20)
    histories = []
    for device in ("cpu", "cuda"):
        model = build(hidden=32, store_effects=False).to(device)
        histories.append(train(model, windows, config, seed=0, device=torch.device(device)))
    on_cpu, on_gpu = ([report.train for report in history] for history in histories)
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=5e-3)


def test_the_same_seed_gives_the_same_bits(windows: Windows) -> None:
    models = [build(hidden=32).cuda() for _ in range(2)]
    for model in models:
        train(model, windows, TrainConfig(epochs=12), seed=0, device=torch.device("cuda"))
    for mine, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("first", ["cpu", "cuda"])
def test_a_run_goes_on_from_a_checkpoint_on_a_gpu(
    windows: Windows, tmp_path: Path, first: str
) -> None:
    """Begun on a GPU it takes the steps of a run that was never interrupted, to the bit."""
    config = TrainConfig(epochs=12, patience=20)

    def stop(report: EpochReport) -> None:
        if report.epoch == 6:
            raise KeyboardInterrupt

    options = {"seed": 0, "checkpoint": tmp_path / "checkpoint.pt"}
    model = build(hidden=32).to(first)
    with pytest.raises(KeyboardInterrupt):
        train(model, windows, config, device=torch.device(first), on_epoch=stop, **options)
    model = build(hidden=32).cuda()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history = train(model, windows, config, device=torch.device("cuda"), resume=True, **options)
    assert [report.epoch for report in history] == list(range(1, 13))
    if first == "cuda":
        uninterrupted = build(hidden=32).cuda()
        train(uninterrupted, windows, config, seed=0, device=torch.device("cuda"))
        for mine, other in zip(model.parameters(), uninterrupted.parameters(), strict=True):
            assert torch.equal(mine, other)
