"""Inputs for the response operator, its oracle, gradients, and the instruction sets to run it on.

The oracle is the definition, one step at a time in float64. It shares nothing with the operator but
the rule that a stock below the smallest normal number of the dtype counts as zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor

from causalmmm.kernels import adstock_hill
from causalmmm.kernels.response import reference

try:
    from causalmmm import _C
except ImportError:
    _C = None  # type: ignore[assignment]

needs_extension = pytest.mark.skipif(_C is None, reason="the extension is not built")

Operator = Callable[..., tuple[Tensor, Tensor]]


def levels() -> list[str]:
    """The instruction sets that this processor can run."""
    if _C is None:
        return []
    order = ["portable", "avx2", "avx512"]
    return order[: order.index(_C.build_info()["cpu_level"]) + 1]


@contextmanager
def on_level(level: str) -> Iterator[Operator]:
    if level == "reference":
        yield reference.adstock_hill
        return
    before = _C.set_cpu_level(level)
    try:
        yield adstock_hill
    finally:
        _C.set_cpu_level(before)


def oracle(
    x: Tensor, decay: Tensor, slope: Tensor, half: Tensor, initial: Tensor | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Response, final stock and all stocks."""
    tiny = np.finfo(float if x.dtype == torch.float64 else np.float32).tiny
    steps = x.shape[-1]
    leading = [v.shape[:-1] for v in (x, decay, slope, half)]
    leading += [] if initial is None else [initial.shape]
    rows = torch.broadcast_shapes(*leading)

    def spread(v: Tensor) -> np.ndarray:
        return v.detach().double().expand(*rows, v.shape[-1]).expand(*rows, steps).numpy()

    xs, ds, ss, ks = spread(x), spread(decay), spread(slope), spread(half)
    stock = np.zeros(rows) if initial is None else initial.detach().double().expand(rows).numpy()
    stocks, response = np.zeros((*rows, steps)), np.zeros((*rows, steps))
    for t in range(steps):
        stock = stocks[..., t] = ds[..., t] * stock + (1 - ds[..., t]) * xs[..., t]
        absent = np.abs(stock) < tiny
        ratio = np.log(np.where(absent, 1.0, np.abs(stock))) - np.log(ks[..., t])
        with np.errstate(over="ignore"):
            size = 1 / (1 + np.exp(-ss[..., t] * ratio))
        response[..., t] = np.where(absent, 0.0, np.sign(stock) * size)
    return response, stock, stocks


def panel(
    steps: int, *, moving: bool = False, dtype: torch.dtype = torch.float32, stores: int = 40
) -> tuple[Tensor, ...]:
    """Inputs as the model passes them: stores, 5 nodes, 3 components."""
    g = torch.Generator().manual_seed(steps)
    time = steps if moving else 1
    x = torch.rand(stores, 5, 1, steps, generator=g, dtype=torch.float64) * 4 - 0.5
    x[torch.rand(x.shape, generator=g) < 0.3] = 0.0
    decay = torch.rand(5, 3, time, generator=g, dtype=torch.float64) * 0.95
    slope = torch.rand(stores, 5, 1, time, generator=g, dtype=torch.float64) * 2.5 + 0.7
    half = torch.rand(stores, 5, 1, time, generator=g, dtype=torch.float64) + 0.3
    initial = torch.rand(stores, 5, 3, generator=g, dtype=torch.float64)
    return tuple(v.to(dtype) for v in (x, decay, slope, half, initial))


def gradients(operator: Operator, inputs: tuple[Tensor, ...], seed: int = 0) -> list[Tensor]:
    """Of a fixed random weighting of both outputs, with respect to all inputs."""
    leaves = [v.detach().requires_grad_() for v in inputs]
    outputs = operator(*leaves)
    g = torch.Generator().manual_seed(seed)
    weights = [torch.randn(v.shape, generator=g, dtype=torch.float64).to(v) for v in outputs]
    return list(torch.autograd.grad(outputs, leaves, weights))


def relative(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())
