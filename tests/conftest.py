"""What tests of several folders share: one small exported model and panels that it can answer for,
and the instruction sets of compiled operators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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


@pytest.fixture(params=["portable", "avx2", "avx512"])
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """The compiled operators by each instruction set of this processor in turn."""
    extension = pytest.importorskip("causalmmm._C", reason="needs the compiled extension")
    try:
        before = extension.set_cpu_level(request.param)
    except ValueError:
        pytest.skip(f"this processor has no {request.param}")
    yield request.param
    extension.set_cpu_level(before)
