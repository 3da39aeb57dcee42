"""The edge passes at small sizes beside eager PyTorch, timed by pytest-benchmark.

    python -m pytest bench/kernels/edge_speed.py                 # on a CPU, one thread
    python -m pytest bench/kernels/edge_speed.py -m gpu          # on a GPU, bfloat16

One round is forward and backward of both passes. Compare runs with --benchmark-save, -compare.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from bench.kernels.edge_formulations import ENCODERS, training_step

FEATURES = 27  # as in training with two lags
SIZES = [(8, 16, 64), (64, 16, 64), (128, 8, 32), (16, 32, 128)]  # stores, nodes, width
GPU = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    ],
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("formulation", ["operators", "concatenated, BatchNorm"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("device", ["cpu", GPU])
def test_training_step(
    benchmark: Any, device: str, size: tuple[int, ...], formulation: str
) -> None:
    benchmark.group = f"{device}, stores x nodes x width = {'x'.join(map(str, size))}"
    stores, nodes, width = size
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = ENCODERS[formulation](nodes, width, FEATURES).to(device, dtype)
    h = torch.randn(stores, nodes, width, device=device, dtype=dtype, requires_grad=True)
    features = torch.randn(stores, nodes, nodes, FEATURES, device=device, dtype=dtype)

    step = training_step(model, h, features)

    def finished_step() -> None:
        step()
        if device == "cuda":
            torch.cuda.synchronize()

    benchmark.pedantic(finished_step, rounds=15, warmup_rounds=3)
    assert h.grad is not None
    assert h.grad.isfinite().all()
