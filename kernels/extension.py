"""Who computes an operator: whether the compiled extension ``causalmmm._C`` is there, what its CPU
operators take, and where Triton's kernels compute instead."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from math import prod
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

MAX_TILE = 1 << 14  # numbers of a tile: 32 for each thread of sixteen warps
_SUFFIXES = (".h", ".cpp", ".cu")


def sources_digest(folder: Path) -> str:
    """SHA-256 over names and contents of the C++ and CUDA sources in ``csrc``, as CMakeLists.txt
    compiles it into the extension."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    listing = "".join(
        f"{name} {sha256(paths[name].read_bytes()).hexdigest()}\n"
        for name in sorted(paths)
        if name.endswith(_SUFFIXES)
    )
    return sha256(listing.encode()).hexdigest()


def refuse_other_sources(extension: ModuleType, folder: Path) -> None:
    """``ImportError`` where an extension beside a source tree was built from other sources: its
    answers would be slow or wrong without a word. An installed package has no sources."""
    digest = getattr(extension, "SOURCES", None)
    if folder.is_dir() and digest != sources_digest(folder):
        raise ImportError(
            f"'{extension.__file__}' was built from other C++ sources than those in '{folder}'. "
            "Build it again (cmake -S . -B build/ext && cmake --build build/ext) and put it in its "
            "place; or pip install ."
        )


def _is_built() -> bool:
    if find_spec("causalmmm._C") is None:
        return False
    from causalmmm import _C

    refuse_other_sources(_C, Path(__file__).resolve().parent.parent / "csrc")
    return True


BUILT = _is_built()  # a source tree has no extension without a build


def float32_on_cpu(x: Tensor) -> bool:
    """Whether a tensor is of the one kind that operators without a GPU form take."""
    return x.device.type == "cpu" and x.dtype == torch.float32


def by_triton(x: Tensor) -> bool:
    """Whether Triton's kernels compute for a tensor: on a GPU, or in Triton's interpreter."""
    return (x.is_cuda or os.environ.get("TRITON_INTERPRET") == "1") and _triton_installed()


def takes(x: Tensor, tile: Sequence[int], fits: bool = True) -> bool:
    """Whether a fused operator takes tensors like ``x``: float32 on a CPU; where Triton computes,
    if a program can hold a tile of these sides, and ``fits``."""
    if by_triton(x):
        held = prod(padded(side) for side in tile) <= MAX_TILE
        return x.dtype == torch.float32 and held and fits
    return float32_on_cpu(x)


def padded(size: int) -> int:
    """The power of two that a side of a tile of this size takes."""
    return 1 << max(size - 1, 0).bit_length()


@cache
def _triton_installed() -> bool:
    return find_spec("triton") is not None
