"""What tests of several folders share: one small exported model and panels that it can answer for,
and the instruction sets of compiled operators."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from causalmmm import CausalMMM, Panel, Schema

SCHEMA = Schema(
    store="shop",
    date="day",
    target="sales",
    channels=["tv", "web"],
    controls=["price"],
    context=["size"],
)


def draw(stores: int, steps: int = 40, seed: int = 0) -> Panel:
    """Stores called 0, 1, ... with a history of that many days."""
    rng = np.random.default_rng(seed)
    values = np.exp(0.4 * rng.standard_normal((stores, steps, 3))) * [20, 50, 900]
    return Panel.from_arrays(
        values,
        schema=SCHEMA,
        first_date="2024-05-01",
        freq="D",
        stores=[str(number) for number in range(stores)],
        controls=rng.standard_normal((stores, steps, 1)),
        context=rng.standard_normal((stores, 1)),
    )


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx", reason="needs the optional extra onnx")
    settings: dict[str, Any] = {"epochs": 2, "hidden": 8, "horizon": 3, "draws": 20, "seed": 1}
    model = CausalMMM(structure="learned", device="cpu", **settings).fit(draw(12), progress=False)
    return model.export_onnx(tmp_path_factory.mktemp("exported") / "model.onnx", max_horizon=10)


@pytest.fixture(scope="session")
def panel() -> Panel:
    return draw(24, seed=7)


@pytest.fixture(scope="session")
def many() -> Panel:
    return draw(120, seed=9)


_LEVELS = ["portable", "avx2", "avx512"]


@contextmanager
def cpu_level(name: str) -> Iterator[None]:
    """Within this context compiled operators use this instruction set; skips without it."""
    extension = pytest.importorskip("causalmmm._C", reason="needs the compiled extension")
    try:
        before = extension.set_cpu_level(name)
    except ValueError:
        pytest.skip(f"this processor has no {name}")
    yield
    extension.set_cpu_level(before)


@pytest.fixture(params=_LEVELS)
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """The compiled operators by each instruction set of this processor in turn."""
    with cpu_level(request.param):
        yield request.param


# Where the fused operators compute. Triton decides at import whether it interprets, so that has a
# process of its own: `tests/kernels/test_fused.py`.
_GPU = pytest.param(
    "gpu",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    ],
)
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.fixture(params=["interpreted"] if _INTERPRETED else [*_LEVELS, _GPU])
def place(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """The fused operators on a CPU by each of its instruction sets, on a GPU, and in Triton's
    interpreter, in turn: the device on which to call them."""
    if request.param not in _LEVELS:
        yield torch.device("cuda" if request.param == "gpu" else "cpu")
        return
    with cpu_level(request.param):
        yield torch.device("cpu")
