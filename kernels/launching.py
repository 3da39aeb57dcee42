"""How Triton kernels of one program a store are launched.

The only place that launches them, so that counts and ahead-of-time compilation see what training
launches.
"""

from __future__ import annotations

import importlib
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def launches_of(operators: str) -> Any:
    """Launches of the Triton kernels in ``causalmmm.kernels.<operators>``; imports Triton only
    where they are used."""
    return importlib.import_module(f"causalmmm.kernels.{operators}.triton.launch")


def launch(
    kernel: Any, programs: tuple[int, ...], *arguments: Any, tile: int, **fixed: int
) -> None:
    """``programs`` of a kernel whose largest tile has ``tile`` numbers; ``fixed`` are its
    compile-time arguments."""
    if programs[0]:
        kernel[programs](*arguments, **fixed, num_warps=warps_for(tile))


def warps_for(numbers: int) -> int:
    """Warps of a program whose largest tile has so many numbers: 16 to 32 for each thread."""
    return min(16, max(1, numbers // 512))


def on_device(x: Tensor) -> AbstractContextManager[object]:
    """Within this context kernels are launched on the device of x."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()
