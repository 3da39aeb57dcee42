"""What every launch of the edge kernels needs: this device's settings, placeholders, chunks, sums.

Host code only, and no kernel is launched here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
import triton
from torch import Tensor
from triton import knobs

from causalmmm.kernels.edge.records import Draw, FirstPass
from causalmmm.kernels.edge.triton import tables


def row_for(kernel: str, x: Tensor) -> tables.Launch | None:
    """The launch of a kernel for tensors [.., H] of this dtype on this device; None without one."""
    device = _device(x.device) if x.is_cuda else ()
    return tables.find(kernel, x.shape[-1], x.element_size(), *device)


def required(kernel: str, x: Tensor) -> tables.Launch:
    row = row_for(kernel, x)
    assert row is not None, f"no launch of {kernel} for these sizes: see `unsupported_reasons`"
    return row


@functools.cache
def _device(device: torch.device) -> tuple[str, int]:
    """Architecture, and bytes of shared memory that a block may have."""
    index = torch.cuda.current_device() if device.index is None else device.index
    major, minor = torch.cuda.get_device_capability(index)
    limits = triton.runtime.driver.active.utils.get_device_properties(index)
    return f"sm_{major}{minor}", limits["max_shared_mem"]


def settings(x: Tensor, launch: tables.Launch) -> dict[str, Any]:
    """What every launch is given: tile, arithmetic, warps and stages."""
    interpreted = bool(knobs.runtime.interpret)
    precision = "ieee" if interpreted or x.dtype != torch.float32 else "tf32x3"
    return {
        "BM": launch.rows,
        "PRECISION": precision,
        "EMULATE": interpreted,
        "num_warps": launch.warps,
        "num_stages": launch.stages,
    }


def pointers(record: FirstPass | Draw) -> list[Tensor]:
    """Its tensors as a kernel takes them; of an absent one a placeholder, which is not read."""
    return [either(x, record[0]) for x in record if not isinstance(x, bool)]


def either(tensor: Tensor | None, placeholder: Tensor) -> Tensor:
    return placeholder if tensor is None else tensor


def padded(features: int) -> int:
    """The inner dimension of a product must be a power of two, and 16 at least."""
    return max(16, triton.next_power_of_2(features))


def feature_options(first: FirstPass) -> dict[str, int]:
    """Sizes of the features, as the kernels take them at compile time."""
    count = 0 if first.features is None else first.features.shape[-1]
    return {"F": count, "FP": padded(count) if count else 0}


def type_options(types: int) -> dict[str, int]:
    return {"K": types, "KP": triton.next_power_of_2(types)}


def chunks(x: Tensor, scratch: int) -> Iterator[slice]:
    """Slices of the stores of x [B, N, H] for which this many scratch tensors of one number for
    each edge and unit stay within `tables.WORKSPACE_BYTES`."""
    batch, nodes, width = x.shape
    bytes_of_store = scratch * nodes**2 * width * x.element_size()
    step = max(1, tables.WORKSPACE_BYTES // bytes_of_store) if scratch else max(1, batch)
    for start in range(0, batch, step):
        yield slice(start, min(start + step, batch))


class Sums:
    """Gradients of weights, added up over chunks in float32 and in a fixed order."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}

    def add(self, name: str, total: Tensor) -> None:
        self.totals[name] = self.totals[name] + total if name in self.totals else total

    def get(self, name: str, like: Tensor) -> Tensor:
        total = self.totals.get(name)
        return torch.zeros_like(like) if total is None else total.to(like.dtype)
