"""What the edge passes must compute and move, and the least time that a device needs for it.

The only source of these numbers; nothing is timed here but a CPU's rates. Counts are of the
kernels' schedule with e kept (the CPU's core multiplies as often as Triton's), so they say what its
form could reach: what a kernel really issues is in `edge_compile`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Device:
    """Rates a second: tensor FLOP (bf16), bytes of memory, exponentials, lane instructions."""

    tensor: float
    memory: float
    exponentials: float
    instructions: float


# Sustained rather than advertised: 132 multiprocessors at 1.755 GHz, each with 16 special-function
# results and 128 lane instructions a clock.
H200 = Device(tensor=790e12, memory=4.3e12, exponentials=3.71e12, instructions=2.97e13)
H100 = Device(tensor=790e12, memory=3.0e12, exponentials=3.71e12, instructions=2.97e13)


def this_gpu() -> Device | None:
    """The rates of the current GPU, if they are known."""
    name = torch.cuda.get_device_name()
    devices = {"H200": H200, "H100": H100}
    return next((device for key, device in devices.items() if key in name), None)


def this_cpu() -> Device:
    """Measured here and now, with the threads torch may use: products and copies alone."""
    x, w, out = torch.randn(4096, 64), torch.randn(64, 64), torch.empty(4096, 64)
    tensor = 2 * x.numel() * 64 / _fastest(lambda: torch.mm(x, w, out=out), 50)
    source = torch.ones(64 << 20, dtype=torch.int8)
    target = torch.empty_like(source)
    memory = 2 * source.numel() / _fastest(lambda: target.copy_(source), 10)
    return Device(tensor, memory, exponentials=math.inf, instructions=math.inf)


def _fastest(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


@dataclass(frozen=True)
class Work:
    flop: float
    bytes: float
    exponentials: float
    instructions: float

    def floor(self, device: Device = H200) -> float:
        """Seconds that the scarcest resource needs, if everything overlaps perfectly."""
        return max(
            self.flop / device.tensor,
            self.bytes / device.memory,
            self.exponentials / device.exponentials,
            self.instructions / device.instructions,
        )


def forward(stores: int, nodes: int, width: int, features: int = 0, size: int = 2) -> Work:
    """Both passes: three products of H x H for an edge, whose state e is written once, and read.

    Instructions: four ELUs of 5, two norms of 3, and 4 for sums and conversions.
    """
    edges, rows = stores * nodes * (nodes - 1), stores * nodes
    return Work(
        flop=edges * (6 * width**2 + 2 * width * features),
        bytes=rows * 6 * width * size + edges * ((2 * width + features) * size + 2 * 2 * 4),
        exponentials=edges * 4 * width,
        instructions=edges * 30 * width,
    )


def backward(stores: int, nodes: int, width: int, features: int = 0, size: int = 2) -> Work:
    """Two recomputed products, and two for each of the three of the forward pass; e is read twice,
    its gradient written and read.

    Instructions: three ELUs of 5, four slopes of 3, norms forward and backward of 9 each.
    """
    edges, rows = stores * nodes * (nodes - 1), stores * nodes
    return Work(
        flop=edges * (16 * width**2 + 4 * width * features),
        bytes=rows * 16 * width * size + edges * ((4 * width + features) * size + 4 * 2 * 4),
        exponentials=edges * 3 * width,
        instructions=edges * 45 * width,
    )
