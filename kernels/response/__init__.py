"""Response operator: carry-over (adstock recurrence) fused with saturation (Hill).

The public function lives here and chooses who computes: the compiled operator in `op`, or, where
that is not built or cannot take the device or dtype, the plain PyTorch form in `reference`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from causalmmm.kernels.extension import BUILT, takes
from causalmmm.kernels.response import reference

if BUILT:
    from causalmmm import _C
    from causalmmm.kernels.response import delay, op

    _COMPILED = {"cpu": True, "cuda": _C.build_info()["cuda"]}
else:
    _COMPILED = {}

__all__ = ["adstock_hill", "backend", "delayed"]


def adstock_hill(
    x: Tensor,
    decay: Tensor,
    slope: Tensor,
    half_saturation: Tensor,
    initial: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Response of rows of exposure: geometric carry-over, then Hill saturation (odd in its input).

        a_t = decay_t a_{t-1} + (1 - decay_t) x_t,          a_{-1} = initial
        s_t = sign(a_t) |a_t|^slope_t / (|a_t|^slope_t + half_saturation_t^slope_t)

    Args:
        x: exposure [..., T], T >= 1, time on the last axis; float32, float64 or bfloat16.
        decay: share of yesterday's stock that stays, in [0, 1); [..., 1], or [..., T] where
            it moves in time.
        slope: steepness > 0; [..., 1] or [..., T].
        half_saturation: stock > 0 that gives half of the full response; [..., 1] or [..., T].
        initial: stock before the first step [...], without a time axis; zero when absent.

    Leading axes of all five broadcast against each other.

    Returns:
        `response` [..., T] in (-1, 1), in the dtype of `x`, and `final` [...], the stock after the
        last step, to be passed on as `initial` of the next piece of the same series. The
        computation, and `final`, are float64 for float64 `x` and float32 otherwise.

    A stock below the smallest normal number counts as zero: response and gradients are zero there.
    So may what is left of a larger stock once decay has made its share that small.

    Sources: the saturation is Hill's equation in the form used by Jin et al. (2017), "Bayesian
    methods for media mix modeling", section 2.2, and the carry-over is their geometric adstock,
    normalised to sum to one.

    Raises:
        ValueError: a shape does not broadcast, or T is 0.
        TypeError: `x` is not floating point.
    """
    _check(x, decay, slope, half_saturation, initial)
    if backend(x) == "reference":
        return reference.adstock_hill(x, decay, slope, half_saturation, initial)
    compute = reference.compute_dtype(x)
    response, final = op.forward(
        x,
        decay.to(compute),
        slope.to(compute),
        half_saturation.to(compute),
        None if initial is None else initial.to(compute),
    )
    return response, final


def delayed(response: Tensor, delays: Sequence[int], rows: int) -> Tensor:
    """The first ``rows`` rows [B, N, D, rows] of responses [B, N, D, T] with component d later by
    ``delays[d]`` steps; before its first value a component has that value.

    Example:
        >>> delayed(torch.arange(4.0).view(1, 1, 1, 4), [2], rows=4).flatten().tolist()
        [0.0, 0.0, 0.0, 1.0]
    """
    if BUILT and takes(response, (len(delays), response.shape[-1])):
        return delay.delayed(response, delays, rows)
    return reference.delayed(response, delays, rows)


def backend(x: Tensor) -> Literal["compiled", "reference"]:
    """Who computes the response of this `x`: the extension, or PyTorch step by step.

    The extension takes float32 and bfloat16 on the CPU, and on CUDA where it was built with it;
    float64 on the CPU, for checking.
    """
    takes = (torch.float32, torch.bfloat16) if x.is_cuda else (*op.DTYPES,) if _COMPILED else ()
    return "compiled" if _COMPILED.get(x.device.type, False) and x.dtype in takes else "reference"


def _check(
    x: Tensor, decay: Tensor, slope: Tensor, half_saturation: Tensor, initial: Tensor | None
) -> None:
    if not x.is_floating_point():
        raise TypeError(f"adstock_hill: x must be floating point, got {x.dtype}")
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"adstock_hill: x needs at least one time step, got shape {list(x.shape)}")
    steps = x.shape[-1]
    leading = {"x": x.shape[:-1]}
    for name, value in (("decay", decay), ("slope", slope), ("half_saturation", half_saturation)):
        if value.ndim == 0 or value.shape[-1] not in (1, steps):
            raise ValueError(
                f"adstock_hill: the last axis of {name} must be 1 or {steps}, the time steps of x, "
                f"got shape {list(value.shape)}"
            )
        leading[name] = value.shape[:-1]
        _same_device(name, value, x)
    if initial is not None:
        leading["initial"] = initial.shape
        _same_device("initial", initial, x)
    if not _broadcast(list(leading.values())):
        shapes = ", ".join(f"{name} {list(shape)}" for name, shape in leading.items())
        raise ValueError(f"adstock_hill: the leading axes do not broadcast: {shapes}")


def _same_device(name: str, value: Tensor, x: Tensor) -> None:
    if value.device != x.device:
        raise ValueError(f"adstock_hill: {name} is on {value.device}, but x is on {x.device}")


def _broadcast(shapes: list[torch.Size]) -> bool:
    """Whether the shapes agree, from the last axis on, wherever neither has size 1."""
    for k in range(1, max(len(shape) for shape in shapes) + 1):
        wide = 1
        for shape in shapes:
            size = shape[-k] if k <= len(shape) else 1
            if size != 1:
                if wide not in (1, size):
                    return False
                wide = size
    return True
